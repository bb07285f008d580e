"""What becomes of parameters that are known but not simply served: refused with the reason, or ignored with a
warning. Each surface has its own list of rules; the page docs/PARAMETERS.md is made of the same lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from appliance.errors import UnsupportedParameter


class Rule(NamedTuple):
    """`accepts` tells which values ask for nothing that is not served anyway. `wire`: the parameter's name in
    requests where Python could not have it."""

    parameter: str
    accepts: Callable[[Any], bool]
    reason: str
    refuses: bool = True  # False: the value is ignored with a warning
    wire: str = ""


def is_empty(value: Any) -> bool:
    return not value


def never(_: Any) -> bool:
    return False


USER_RULES = (Rule("user", never, "requests are not tracked by user", refuses=False),)


def apply(holder: object, rules: Sequence[Rule], path: str = "") -> Iterator[str]:
    """The warnings for what `holder` has and is ignored. Raises UnsupportedParameter for what is refused."""
    for rule in rules:
        value = getattr(holder, rule.parameter)
        if value is None or rule.accepts(value):
            continue
        name = path + (rule.wire or rule.parameter)
        if rule.refuses:
            raise UnsupportedParameter(f"{name} cannot be served: {rule.reason}", param=name)
        yield f"{name} is ignored: {rule.reason}"
