"""A template as it is parsed: rewritten, so that everything that loops, compares or builds passes the meter.

The meter is reached through the environment and not through names, which a template could define anew. What
`joined`, `measured`, `moment` and `loop_round` do is the environment's business.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class Generation(Extension):
    """`{% generation %}` marks assistant text for training; rendering passes it through."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own protocol

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def rewrite(node: nodes.Node) -> None:
    """All that stands below `node`, in place."""
    for name, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            rewrite(value)
            setattr(node, name, _guarded(value))
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, nodes.Node):
                    rewrite(item)
            value[:] = [_guarded(item) for item in value]
    if isinstance(node, nodes.For):
        node.body.insert(0, nodes.Output([nodes.EnvironmentAttribute("loop_round")]).set_lineno(node.lineno))
        if node.test is not None:
            node.test = _after("loop_round", node.test)


def _guarded(node: Any) -> Any:
    if isinstance(node, nodes.Concat):
        return _call("joined", node.nodes, node)
    is_slice = isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    is_load = isinstance(node, nodes.Tuple) and node.ctx == "load"
    if is_slice or is_load or isinstance(node, (nodes.List, nodes.Dict)):
        return _call("measured", [node], node)
    if isinstance(node, nodes.Compare):
        return _after("moment", node)
    return node


def _after(name: str, node: nodes.Node) -> nodes.Expr:
    """The value of `node`, once the environment's property `name` has been read."""
    both = nodes.Or(nodes.EnvironmentAttribute(name), node)
    both.set_lineno(node.lineno)
    return both


def _call(name: str, arguments: list[nodes.Expr], near: nodes.Node) -> nodes.Expr:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(near.lineno)
    return call
