"""What gateway and extractor say to each other: some jobs, and as many replies in their order."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, msgpack


class Limits(Struct, frozen=True):
    """What reading one document may take: bytes of memory, seconds, characters of text."""

    memory_bytes: int = 1024 * 1024 * 1024
    seconds: float = 120.0
    text_chars: int = 20_000_000


class Measure(Struct, frozen=True):
    """How the embedder counts: its tokenizer.json, its limit and what it puts before a passage."""

    tokenizer: str
    offset: int
    bytes: int
    max_tokens: int
    prefix: str


class Job(Struct, frozen=True):
    """Read the file at `path`, or take `text` with its packed `spans` as read before; then chunk it."""

    path: str
    name: str
    measure: Measure
    chunk_tokens: int
    overlap_tokens: int
    limits: Limits
    text: str = ""
    spans: bytes = b""


class Pieces(Struct, frozen=True, tag=True):
    """The text, its packed spans, and its chunks: (begins, ends, page, heading)."""

    text: str
    spans: bytes
    pieces: tuple[tuple[int, int, int, str], ...]


class Refusal(Struct, frozen=True, tag=True):
    """The document gives no chunks, and why."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


Reply = Pieces | Refusal

encode = msgpack.Encoder().encode
jobs_decoder = msgpack.Decoder(tuple[Job, ...])
reply_decoder: msgpack.Decoder[Reply] = msgpack.Decoder(Reply)
replies_decoder: msgpack.Decoder[tuple[Reply, ...]] = msgpack.Decoder(tuple[Reply, ...])
