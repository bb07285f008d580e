"""Attribute filters from their JSON: `{"type": "eq", "key": …, "value": …}`, and `and`/`or` over a list."""

from __future__ import annotations

import typing
from typing import Any

from appliance.errors import InvalidValue, MissingParameter, UnknownParameter
from appliance.knowledge.filters import Comparison, Compound, Filter, Operator

MOST_DEPTH = 8
MOST_COMPARISONS = 256
MOST_OPTIONS = 1024
OPERATORS = typing.get_args(Operator)


def filter_of(value: Any, path: str = "filters") -> Filter:
    """The filter. Raises the errors of `validate`, with `param` such as `filters.filters[1].key`."""
    found, comparisons = _filter(value, path, 0)
    if comparisons > MOST_COMPARISONS:
        raise InvalidValue(f"{path} holds {comparisons} comparisons; at most {MOST_COMPARISONS}", param=path)
    return found


def _filter(value: Any, path: str, depth: int) -> tuple[Filter, int]:
    if not isinstance(value, dict):
        raise InvalidValue(f"{path} is no object", param=path)
    if depth > MOST_DEPTH:
        raise InvalidValue(f"{path} nests deeper than {MOST_DEPTH} levels", param=path)
    kind = value.get("type")
    if kind in ("and", "or"):
        _check_keys(value, ("type", "filters"), path)
        parts = value["filters"]
        if not isinstance(parts, list) or not parts:
            raise InvalidValue(f"{path}.filters is no list of filters", param=f"{path}.filters")
        made = [_filter(part, f"{path}.filters[{n}]", depth + 1) for n, part in enumerate(parts)]
        return Compound(kind, tuple(part for part, _ in made)), sum(count for _, count in made)
    if not isinstance(kind, str) or kind not in OPERATORS:
        raise InvalidValue(
            f"{path}.type is {kind!r}; it may be {', '.join(OPERATORS)}, and, or", param=f"{path}.type"
        )
    _check_keys(value, ("type", "key", "value"), path)
    if not isinstance(value["key"], str):
        raise InvalidValue(f"{path}.key is no text", param=f"{path}.key")
    operator = typing.cast("Operator", kind)
    return Comparison(operator, value["key"], _operand(kind, value["value"], f"{path}.value")), 1


def _operand(kind: str, value: Any, path: str) -> Any:
    if kind in ("in", "nin"):
        if not isinstance(value, list) or len(value) > MOST_OPTIONS:
            raise InvalidValue(f"{path} is no list of at most {MOST_OPTIONS} values", param=path)
        return tuple(_scalar(item, f"{path}[{n}]") for n, item in enumerate(value))
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> str | float | bool:
    if not isinstance(value, str | int | float):
        raise InvalidValue(f"{path} is neither text, number nor boolean", param=path)
    return value


def _check_keys(value: dict[str, Any], known: tuple[str, ...], path: str) -> None:
    for key in value:
        if key not in known:
            raise UnknownParameter(f"there is no parameter {path}.{key!r} here", param=f"{path}.{key}")
    for key in known:
        if key not in value:
            raise MissingParameter(f"the parameter '{path}.{key}' is required", param=f"{path}.{key}")
