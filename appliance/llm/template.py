"""Chat templates: a stranger's program out of a model file, run where it can do no harm.

A template comes with the weights and is not to be trusted. It runs in jinja's immutable sandbox with, on
top, what the sandbox lacks: a limit on loop rounds, on the size of every string it builds, on time, and
allow-lists of filters and methods. This module renders conversations to text; it knows no tokens.

Source of the template dialect: the Hugging Face chat-template conventions (`raise_exception`,
`strftime_now`, `tojson` without HTML escapes, `{% generation %}` ignored).
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.errors import InvalidRequest, UnsupportedParameter
from appliance.records import Message

MAX_TEMPLATE_CHARS = 256 * 1024
MAX_OUTPUT_CHARS = 8 * 1024 * 1024
MAX_ROUNDS = 200_000

ALLOWED_FILTERS = frozenset(
    "abs capitalize count default d dictsort escape e first float forceescape indent int items join last "
    "length list lower map max min reject rejectattr replace reverse round safe select selectattr slice "
    "sort string sum title tojson trim truncate unique upper wordcount".split()
)
ALLOWED_STRING_METHODS = frozenset(
    "capitalize count endswith find format index isalnum isalpha isdigit islower isnumeric isspace isupper "
    "join lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip split "
    "splitlines startswith strip title upper".split()
)

GENERIC_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


_MISHAPS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


class TemplateRefusal(InvalidRequest):
    """The template itself refuses the conversation, such as two user turns in a row."""

    code = "template_error"


class _LimitReached(Exception):
    """A template went over one of its limits."""


class _Generation(Extension):
    """`{% generation %}` marks assistant text for training; rendering passes it through."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own protocol

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox with limits. The parsed template is rewritten so that every loop round and every
    concatenation passes through a counting function; operators are intercepted by jinja itself."""

    intercepted_binops = frozenset(["+", "*", "**", "%", "/", "//", "-"])

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            extensions=[_Generation, loopcontrols],
        )
        self._seconds, self._clock = seconds, clock
        self._ends_at = 0.0
        self._rounds = 0
        self._built = 0
        self.filters = {name: call for name, call in self.filters.items() if name in ALLOWED_FILTERS}
        self.filters["tojson"] = _to_json
        self.globals = {
            "range": self._range,
            "dict": dict,
            "namespace": self.globals["namespace"],
            "raise_exception": _refuse,
            "strftime_now": _now,
            "hearth_round": self._round,
            "hearth_concat": self._concat,
        }

    def begin(self) -> None:
        self._ends_at = self._clock() + self._seconds
        self._rounds = self._built = 0

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Rewriter().rewrite(super()._parse(source, name, filename))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and isinstance(left, int) and not isinstance(right, (int, float)):
            left, right = right, left
        if operator == "*" and isinstance(left, (str, list, tuple)) and isinstance(right, int):
            self._count(len(left) * max(right, 0))
        elif operator == "+" and isinstance(left, (str, list, tuple)):
            self._count(len(left) + (len(right) if isinstance(right, (str, list, tuple)) else 0))
        elif operator == "**" or (operator == "%" and isinstance(left, str)):
            raise _LimitReached(f"uses the operator {operator}")
        elif isinstance(left, int) and abs(left) > 2**64:
            raise _LimitReached("computes with numbers over 64 bits")
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, called: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call(context, called, *args, **kwargs)
        if isinstance(result, str):
            self._count(len(result))
        return result

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr not in ALLOWED_STRING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def _range(self, *bounds: int) -> range:
        wanted = range(*bounds)
        if len(wanted) > MAX_ROUNDS:
            raise _LimitReached(f"asks for a range of {len(wanted)}")
        return wanted

    def _round(self) -> str:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise _LimitReached(f"takes more than {MAX_ROUNDS} loop rounds")
        self._count(0)
        return ""

    def _concat(self, *parts: Any) -> str:
        texts = [str(part) for part in parts]
        self._count(sum(map(len, texts)))
        return "".join(texts)

    def _count(self, built: int) -> None:
        self._built += built
        if self._built > MAX_OUTPUT_CHARS:
            raise _LimitReached(f"builds more than {MAX_OUTPUT_CHARS} characters")
        if self._clock() > self._ends_at:
            raise _LimitReached(f"takes longer than {self._seconds:g} s")


class _Rewriter:
    """Puts a count into every loop body and turns `a ~ b` into a counted call."""

    def rewrite(self, template: nodes.Template) -> nodes.Template:
        bodies: tuple[type[Any], ...] = (nodes.For, nodes.Macro, nodes.CallBlock)
        for loop in list(template.find_all(bodies)):
            tick = nodes.Output([nodes.Call(nodes.Name("hearth_round", "load"), [], [], None, None)])
            loop.body.insert(0, tick.set_lineno(loop.lineno))
        self._replace_concatenations(template)
        return template

    def _replace_concatenations(self, node: nodes.Node) -> None:
        for name, value in list(node.iter_fields()):
            if isinstance(value, nodes.Node):
                self._replace_concatenations(value)
                setattr(node, name, self._counted(value))
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, nodes.Node):
                        self._replace_concatenations(item)
                value[:] = [self._counted(item) for item in value]

    @staticmethod
    def _counted(node: Any) -> Any:
        if not isinstance(node, nodes.Concat):
            return node
        call = nodes.Call(nodes.Name("hearth_concat", "load"), node.nodes, [], None, None)
        return call.set_lineno(node.lineno)


class ChatTemplate:
    """A compiled chat template.

    Raises InvalidRequest when the source does not compile or is over its size limit.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_text: str = "",
        eos_text: str = "",
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise InvalidRequest(
                f"the model's chat template has {len(source)} characters; the limit is {MAX_TEMPLATE_CHARS}"
            )
        self._sandbox = _Sandbox(seconds, clock)
        self._constants = {"bos_token": bos_text, "eos_token": eos_text}
        try:
            self._template = self._sandbox.from_string(source)
        except (jinja2.TemplateError, _LimitReached, RecursionError) as error:
            raise InvalidRequest(f"the model's chat template does not compile: {error}") from error
        self._names_options = _names(self._sandbox, source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as the model was trained to read it.

        Raises TemplateRefusal when the template calls `raise_exception`, UnsupportedParameter for an option
        that the template does not know, and InvalidRequest when it fails or goes over a limit.
        """
        unknown = sorted(set(options or {}) - self._names_options)
        if unknown:
            raise UnsupportedParameter(
                f"this model's chat template has no option {unknown[0]!r}",
                param=f"chat_template_kwargs.{unknown[0]}",
            )
        turns = [_turn(message) for message in messages]
        variables = {**self._constants, **(options or {}), "messages": turns}
        self._sandbox.begin()
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(variables, add_generation_prompt=add_generation_prompt):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_OUTPUT_CHARS:
                    raise _LimitReached(f"writes more than {MAX_OUTPUT_CHARS} characters")
        except TemplateRefusal:
            raise
        except _LimitReached as error:
            raise InvalidRequest(f"the model's chat template {error}") from error
        except (jinja2.TemplateError, *_MISHAPS) as error:
            raise InvalidRequest(
                f"the model's chat template cannot render this conversation: {error}"
            ) from error
        except (RecursionError, MemoryError) as error:
            raise InvalidRequest("the model's chat template nests too deeply") from error
        return "".join(pieces)


def _turn(message: Message) -> dict[str, str]:
    turn = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _names(environment: jinja2.Environment, source: str) -> frozenset[str]:
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(environment.parse(source))) - {
        "messages", "bos_token", "eos_token", "add_generation_prompt", "tools",
    }  # fmt: skip


def _refuse(message: str) -> None:
    raise TemplateRefusal(f"the model's chat template refuses this conversation: {str(message)[:500]}")


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(str(pattern)[:100])


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    return json.dumps(value, indent=min(indent, 8) if indent else None, ensure_ascii=ensure_ascii)


SEVER = "\ue000"  # a private-use character: breaks a control token's text apart


def sever(text: str, special_texts: Iterable[str]) -> str:
    """Client text in which no control token's text stands whole any more; `join_severed` undoes it.

    A client must not be able to end its own turn or forge another's by writing `<|im_end|>`.
    """
    for special in special_texts:
        if special in text:
            text = text.replace(special, special[0] + SEVER + special[1:])
    return text


def join_severed(text: str) -> str:
    return text.replace(SEVER, "")
