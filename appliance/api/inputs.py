"""`prompt` and `input` come in four forms; this tells them apart."""

from __future__ import annotations

from appliance.api.schemas import InputList
from appliance.errors import InvalidValue


def inputs(
    value: str | InputList, param: str, *, at_most: int
) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    """All texts, or all token-id lists. Raises InvalidValue for a mixture, or more than `at_most`."""
    if isinstance(value, str):
        return (value,)
    texts = tuple(item for item in value if isinstance(item, str))
    ids = tuple(item for item in value if isinstance(item, int))
    lists = tuple(tuple(item) for item in value if isinstance(item, list))
    if len(ids) == len(value):
        return (ids,)
    if len(texts) != len(value) and len(lists) != len(value):
        raise InvalidValue(
            f"{param} mixes texts and token ids; give a text, a list of texts, a list of token ids, or a "
            "list of lists of token ids",
            param=param,
        )
    if len(value) > at_most:
        raise InvalidValue(f"{param} has {len(value)} entries; the limit is {at_most}", param=param)
    return texts or lists
