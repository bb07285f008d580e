"""What to do about an error, told by its code. Most of the server's messages say it themselves."""

from __future__ import annotations

from appliance.errors import HearthError, Unavailable
from tui.language import has, say


def advice(error: HearthError) -> str:
    """The next step."""
    key = f"advice.{error.detail_code}"
    if error.detail_code == "unavailable" and not isinstance(error, Unavailable):
        key = "advice.switched_off"  # the server answers; it is a part of it that does not
    return say(key if has(key) else "advice.other")
