"""What the engine asks of whatever computes: the seam between scheduling and llama.cpp.

`native` implements it over llama.cpp and `fake` over arithmetic; nothing above this line knows which. All
calls come from the engine's one thread, but for those of `Vocabulary`, which are pure look-ups.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.records import SamplingParams

Logits = NDArray[np.float32]
Content = NDArray[np.uint8]  # keys and values, as llama.cpp writes them


class Span(NamedTuple):
    """Consecutive tokens of one cache sequence to compute in a step, and logits for the last `rows`."""

    sequence: int
    start: int
    tokens: Seq[int]
    rows: int


class Vocabulary(Protocol):
    """Tokens and text of one model. Safe to call from any thread."""

    size: int
    chat_template: str | None
    bos_text: str
    eos_text: str
    longest_token: int  # bytes of text that one token stands for at most

    def tokenize(self, text: str, *, add_bos: bool, parse_special: bool) -> list[int]: ...

    def piece(self, token: int) -> bytes:
        """The token's bytes as they appear in an answer; empty for control tokens."""
        ...

    def literal(self, token: int) -> bytes:
        """The token's bytes including those of control tokens."""
        ...

    def ends_generation(self, token: int) -> bool: ...

    def special_texts(self) -> tuple[str, ...]:
        """Every text that tokenising could turn into a token that structures a conversation."""
        ...


class Sampler(Protocol):
    """Chooses tokens for one sequence; owned by the engine, which closes it.

    `is_memoryless`: what was picked before does not change what is picked next, so a pick may be thrown away.
    """

    is_memoryless: bool

    def pick(self, row: int) -> int:
        """A token for the `row`-th requested logits of the last decode; remembers it for penalties."""
        ...

    def accept(self, token: int) -> None:
        """Remember a token that was not picked but set."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A KV cache of `cells` shared by up to `sequences` token sequences, and the model that fills it."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def cells(self) -> int: ...

    @property
    def sequences(self) -> int: ...

    def use(self, adapter: str) -> None:
        """Compute with this LoRA adapter from now on; empty: with none. Raises InternalError."""
        ...

    def decode(self, spans: Seq[Span]) -> None:
        """Compute all spans in one batch. Raises InternalError when the engine refuses the batch."""
        ...

    def logits(self, row: int) -> Logits:
        """A view of the `row`-th logits that were asked for; valid until the next decode, and writable."""
        ...

    def sampler(self, params: SamplingParams, seed: int) -> Sampler: ...

    def share(self, source: int, target: int, length: int) -> None:
        """Let `target` use the first `length` cells of `source` too; computes nothing."""
        ...

    def forget(self, sequence: int, start: int = 0) -> None:
        """Drop the sequence's hold on its cells from position `start` on."""
        ...

    def length(self, sequence: int) -> int:
        """How many tokens the sequence holds."""
        ...

    def save(self, sequence: int, start: int, length: int) -> Content:
        """A copy of the keys and values at `length` positions of the sequence, from `start` on."""
        ...

    def restore(self, sequence: int, start: int, length: int, content: Content) -> bool:
        """Put a copy that `save` made back, behind the `start` tokens that the sequence holds; whether that
        was possible. If not, the sequence holds what it held."""
        ...

    def close(self) -> None: ...
