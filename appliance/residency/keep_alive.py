"""How long an unused model stays in memory, as clients write it: seconds, or a duration like `1h30m`.

0: it is unloaded when its last request ends. Negative: it stays until its memory is needed.
"""

from __future__ import annotations

import math
import re

from appliance.errors import InvalidValue

FOREVER = math.inf
MOST_SECONDS = 366 * 86_400.0  # longer is for ever

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"-?(?:{_PART.pattern})+|-?\d{{1,9}}(?:\.\d{{1,9}})?")


def parse(value: float | str) -> float:
    """Seconds, `FOREVER` for negative or very long ones. Raises InvalidValue for what is no duration."""
    seconds = value if isinstance(value, int | float) else _seconds(value)
    return FOREVER if seconds < 0 or seconds > MOST_SECONDS else float(seconds)


def _seconds(text: str) -> float:
    text = text.strip()
    if not _DURATION.fullmatch(text):
        raise InvalidValue(
            f"keep_alive is {text[:40]!r}; it takes seconds, or a duration such as '90s', '5m' or '1h30m'; "
            "0 unloads the model when it is done, -1 keeps it",
            param="keep_alive",
        )
    parts = _PART.findall(text)
    size = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else abs(float(text))
    return -size if text.startswith("-") else size
