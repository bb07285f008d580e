"""What becomes of parameters that are known but not simply served: refused with the reason, or ignored with a
warning. Each surface has its own list of rules; the page docs/PARAMETERS.md is made of the same lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from appliance.errors import UnsupportedParameter


class Rule(NamedTuple):
    """`accepts` tells which values ask for nothing that is not served anyway."""

    parameter: str
    accepts: Callable[[Any], bool]
    reason: str
    refuses: bool = True  # False: the value is ignored with a warning


def is_empty(value: Any) -> bool:
    return not value


def never(_: Any) -> bool:
    return False


def apply(holder: object, rules: Sequence[Rule], path: str = "") -> Iterator[str]:
    """The warnings for what `holder` has and is ignored. Raises UnsupportedParameter for what is refused."""
    for rule in rules:
        value = getattr(holder, rule.parameter)
        if value is None or rule.accepts(value):
            continue
        if rule.refuses:
            raise UnsupportedParameter(
                f"{path}{rule.parameter} cannot be served: {rule.reason}", param=path + rule.parameter
            )
        yield f"{path}{rule.parameter} is ignored: {rule.reason}"
