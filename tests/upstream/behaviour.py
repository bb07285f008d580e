"""How the scripted online service answers one request: a whole answer, or any way of failing at it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

Ending = Literal[
    "close",  # the connection is closed
    "reset",  # … with a reset
    "half-close",  # the service stops sending but keeps reading
    "stall",  # nothing more comes, the connection stays
    "garbage",  # a line that is no event
    "bad-json",  # an event that is not JSON
    "bad-shape",  # JSON of another shape
    "bad-chunk",  # a broken chunk header
    "error-event",  # the API's own error in the stream
    "no-done",  # a clean end without [DONE]
    "done",  # [DONE], as if that were all
]


@dataclass(frozen=True)
class Behaviour:
    """The default is a healthy service. Times are seconds, `cut_after` characters of the text."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None  # sent in place of an answer
    raw: bytes | None = None  # sent in place of HTTP
    connect: Literal["accept", "reset", "close"] = "accept"
    before_head: float = 0.0
    before_text: float = 0.0
    between: float = 0.0
    comments: int = 0  # `: ping` lines before the text
    cut_after: int | None = None
    ending: Ending = "close"
    is_whole: bool = False  # one JSON body although a stream was asked for
    line_end: str = "\n"
    send_finish: bool = True
    send_done: bool = True
    send_usage: bool = True
    keep_alive: bool = True
    dribble: int = 0  # bytes per write; 0: as they come
    is_empty: bool = False  # a stream with no text at all


HEALTHY = Behaviour()

# Everything that must make the next candidate answer, where nothing was sent yet.
FAULTS_BEFORE_TEXT: dict[str, Behaviour] = {
    "reset on connect": Behaviour(connect="reset"),
    "close on connect": Behaviour(connect="close"),
    "status 429": Behaviour(status=429, headers=(("retry-after", "1"),)),
    "status 402": Behaviour(status=402),
    "status 401": Behaviour(status=401),
    "status 404": Behaviour(status=404),
    "status 500": Behaviour(status=500),
    "status 503 not json": Behaviour(status=503, body=b"<html>Service Unavailable</html>"),
    "redirect": Behaviour(status=307, headers=(("location", "http://169.254.169.254/"),), body=b""),
    "empty 200": Behaviour(body=b""),
    "empty stream": Behaviour(is_empty=True),
    "html 200": Behaviour(body=b"<html>captive portal</html>", headers=(("content-type", "text/html"),)),
    "not http": Behaviour(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "garbage event": Behaviour(cut_after=0, ending="garbage"),
    "bad json event": Behaviour(cut_after=0, ending="bad-json"),
    "bad shape event": Behaviour(cut_after=0, ending="bad-shape"),
    "bad chunk": Behaviour(cut_after=0, ending="bad-chunk"),
    "error event": Behaviour(cut_after=0, ending="error-event"),
    "no head": Behaviour(before_head=60),
    "stall before text": Behaviour(before_text=60),
    "stall": Behaviour(cut_after=0, ending="stall"),
    "close": Behaviour(cut_after=0, ending="close"),
    "half close": Behaviour(cut_after=0, ending="half-close"),
    "only done": Behaviour(cut_after=0, ending="done"),
    "no done": Behaviour(cut_after=0, ending="no-done"),
}

CUTS: tuple[Ending, ...] = (
    "close",
    "reset",
    "half-close",
    "stall",
    "garbage",
    "bad-json",
    "bad-shape",
    "bad-chunk",
    "error-event",
    "no-done",
)

_WORDS = (
    "the river runs 河流 über déjà 🙂 👩‍👩‍👧 e\u0301 \n\n \t 你好，世界 'quoted' \"double\" "
    "\\n data: [DONE] {} ,"
).split(" ")


def make_text(seed: int, length: int = 200) -> str:
    """A text of `length` characters that would show a lost or doubled one: words, scripts, traps for
    parsers.
    """
    chance = random.Random(seed)
    words: list[str] = []
    size = 0
    while size < length:
        words.append(chance.choice(_WORDS) + (str(chance.randrange(1000)) if chance.random() < 0.3 else ""))
        size += len(words[-1]) + 1
    words.append("")
    return " ".join(words)[:length]


def in_pieces(text: str, seed: int, longest: int = 12) -> list[str]:
    """`text` in pieces of 1 to `longest` characters, as tokens would come."""
    chance = random.Random(seed)
    pieces: list[str] = []
    at = 0
    while at < len(text):
        size = chance.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


@dataclass
class Seen:
    """What the service saw of one request."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, object]
    was_left: bool = False  # the client closed before the answer's end
    sent: list[str] = field(default_factory=list)
