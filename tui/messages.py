"""What the parts of the UI tell each other. The feeds send, screens receive."""

from __future__ import annotations

from typing import Any

from textual.message import Message

from appliance.errors import HearthError


class Fed(Message, bubble=False):
    """`feed` has this value now."""

    def __init__(self, feed: str, value: Any) -> None:
        super().__init__()
        self.feed = feed
        self.value = value


class Unfed(Message, bubble=False):
    """The server refused `feed`."""

    def __init__(self, feed: str, error: HearthError) -> None:
        super().__init__()
        self.feed = feed
        self.error = error


class Lost(Message, bubble=False):
    """The server does not answer; `retry_in` seconds from now it is asked again."""

    def __init__(self, error: HearthError, retry_in: float) -> None:
        super().__init__()
        self.error = error
        self.retry_in = retry_in


class Found(Message, bubble=False):
    """The server answers; after a loss, or for the first time."""
