"""A chat answer as it arrives: its words, its citations and what the server warns of.

Knows the events of `/v1/chat/completions`, not how requests are sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from appliance.errors import HearthError

Note = Callable[[str], None]


class RemoteError(HearthError):
    """What the server answered, in its own words."""

    code = "remote_error"


def unheard(warning: str) -> None:
    """For callers that have nobody to tell."""


def read(response: httpx.Response, note: Note = unheard) -> Iterator[str | dict[str, Any]]:
    """Words, and citations as the wire has them, in their order; each warning goes to `note` when it comes.

    Raises RemoteError for an error in mid-stream, httpx.TransportError when the connection breaks.
    """
    if warning := response.headers.get("x-hearth-warning"):
        note(warning)
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise RemoteError(str(event["error"]["message"]))
        for warning in event.get("warnings") or ():
            note(warning)
        for choice in event["choices"]:
            delta = choice["delta"]
            if text := delta.get("content"):
                yield text
            for annotation in delta.get("annotations") or ():
                yield annotation["file_citation"]
