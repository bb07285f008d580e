"""OpenAI's attribute filters, evaluated on a document's attributes. Pure.

A comparison with an attribute that a document lacks, or that is of another kind, does not hold; `ne` and
`nin` are the opposites of `eq` and `in`, and do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from appliance.store.rows import Attributes, AttributeValue

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]


class Comparison(Struct, frozen=True):
    type: Operator
    key: str
    value: AttributeValue | tuple[AttributeValue, ...]


class Compound(Struct, frozen=True):
    type: Literal["and", "or"]
    filters: tuple[Filter, ...]


Filter = Comparison | Compound

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def holds(filter: Filter, attributes: Attributes) -> bool:
    if isinstance(filter, Compound):
        results = (holds(each, attributes) for each in filter.filters)
        return all(results) if filter.type == "and" else any(results)
    actual, wanted = attributes.get(filter.key), filter.value
    match filter.type:
        case "eq":
            return _same(actual, wanted)
        case "ne":
            return not _same(actual, wanted)
        case "in" | "nin":
            options = wanted if isinstance(wanted, tuple) else (wanted,)
            return any(_same(actual, option) for option in options) == (filter.type == "in")
        case _:
            if actual is None or isinstance(wanted, tuple) or _kind(actual) is not _kind(wanted):
                return False
            return _ORDERED[filter.type](actual, wanted)


def _same(actual: AttributeValue | None, wanted: object) -> bool:
    return actual is not None and _kind(actual) is _kind(wanted) and actual == wanted


def _kind(value: object) -> type:
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, (int, float)) else type(value)
