"""What `service` takes and gives: requests and states that are no rows of the store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from appliance.errors import InvalidValue
from appliance.knowledge.retrieve import Candidate
from appliance.store.rows import Attributes, Base, Counts

DAY = 86_400


@dataclass(frozen=True)
class Chunking:
    """Tokens of a chunk at most, and of what it repeats of the one before."""

    tokens: int
    overlap: int


@dataclass(frozen=True)
class NewDocument:
    """A file to put into a base; once it has been read, the file `replaces` goes."""

    file: str
    attributes: Attributes = field(default_factory=dict)
    chunking: Chunking | None = None
    replaces: str = ""


@dataclass(frozen=True)
class BaseStatus:
    """A base with what is in it."""

    base: Base
    counts: Counts
    usage_bytes: int

    @property
    def expires_at(self) -> float | None:
        days = self.base.expires_days
        return None if days is None else self.base.active_at + days * DAY

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()


@dataclass(frozen=True)
class Answer:
    """Passages, best first. `relevance`: 0 to 1, how well the question fits the base at all; every
    passage's `score` is its share of that. `seconds`: what each stage took."""

    candidates: tuple[Candidate, ...]
    relevance: float
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()


def check_chunking(tokens: int, overlap: int) -> None:
    """Raises InvalidValue for sizes that OpenAI's API does not take either."""
    if 2 * overlap > tokens:
        raise InvalidValue(
            f"chunk_overlap_tokens is {overlap}; it may be at most half of max_chunk_size_tokens, {tokens}",
            param="chunking_strategy.static.chunk_overlap_tokens",
        )
