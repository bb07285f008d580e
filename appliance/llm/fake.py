"""A deterministic peer of `native`: the same seam over arithmetic instead of a model.

Its next token depends on every token that the cache really holds for a sequence, so a wrong share, a missing
forget or a wrong position changes the text. It keeps the books llama.cpp keeps and refuses what llama.cpp
would: a gap in positions, more cells than there are, more logits than asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from appliance.errors import InternalError
from appliance.llm.backend import Content, Logits, Span
from appliance.records import SamplingParams

BOS, EOS = 256, 257
CONTROL = {BOS: "<|begin|>", EOS: "<|end|>"}


class FakeVocabulary:
    """One token a byte, and two control tokens."""

    size = 258
    chat_template: str | None = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
    )
    bos_text, eos_text = CONTROL[BOS], CONTROL[EOS]
    longest_token = max(map(len, CONTROL.values()))

    def tokenize(self, text: str, *, add_bos: bool, parse_special: bool) -> list[int]:
        tokens = [BOS] if add_bos else []
        while text:
            token, word = next(
                ((t, w) for t, w in CONTROL.items() if parse_special and text.startswith(w)), (None, "")
            )
            if token is None:
                tokens.extend(text[0].encode("utf-8", errors="replace"))
            else:
                tokens.append(token)
            text = text[len(word) or 1 :]
        return tokens

    def piece(self, token: int) -> bytes:
        return b"" if token in CONTROL else bytes([token])

    def literal(self, token: int) -> bytes:
        return CONTROL[token].encode() if token in CONTROL else bytes([token])

    def ends_generation(self, token: int) -> bool:
        return token == EOS

    def special_texts(self) -> tuple[str, ...]:
        return tuple(CONTROL.values())


class FakeSampler:
    def __init__(self, backend: FakeBackend, params: SamplingParams, seed: int) -> None:
        self._backend, self._params = backend, params
        self._random = np.random.default_rng(seed)
        self.is_memoryless = True
        self.closed = False

    def pick(self, row: int) -> int:
        logits = self._backend.logits(row).astype(np.float64)
        for token, bias in self._params.logit_bias.items():
            logits[token] += bias
        if self._params.temperature == 0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()) / self._params.temperature)
        return int(self._random.choice(len(weights), p=weights / weights.sum()))

    def accept(self, token: int) -> None:
        """A fake has no penalties to remember it for."""

    def close(self) -> None:
        self.closed = True


class FakeBackend:
    """`answer` maps a sequence's whole history to its next token; by default a checksum chooses one."""

    def __init__(
        self,
        *,
        cells: int = 512,
        sequences: int = 32,
        answer: Callable[[Sequence[int]], int] | None = None,
    ) -> None:
        self.vocabulary = FakeVocabulary()
        self.cells = cells
        self.sequences = sequences
        self.steps = 0
        self.computed_tokens = 0
        self.most_cells = 0
        self.saved_blocks = self.restored_tokens = 0
        self._answer = answer or checksum_token
        self._cache: dict[int, list[tuple[int, int]]] = {}  # per sequence: token and cell
        self._adapter = ""
        self._next_cell = 0
        self._rows: list[list[int]] = []  # the history that each row of logits follows from
        self._views: dict[int, Logits] = {}
        self.before_decode: Callable[[Sequence[Span]], None] | None = None

    def use(self, adapter: str) -> None:
        self._adapter = adapter

    def decode(self, spans: Sequence[Span]) -> None:
        if self.before_decode is not None:
            self.before_decode(spans)
        self._rows = []
        self._views.clear()
        for span in spans:
            held = self._cache.setdefault(span.sequence, [])
            if len(held) != span.start:
                raise InternalError(
                    f"sequence {span.sequence} holds {len(held)} tokens; the span starts at {span.start}"
                )
            for token in span.tokens:
                held.append((token + adapter_shift(self._adapter), self._next_cell))
                self._next_cell += 1
            history = [token for token, _ in held]
            self._rows += [history[: len(history) - back] for back in range(span.rows - 1, -1, -1)]
        self.steps += 1
        self.computed_tokens += sum(len(span.tokens) for span in spans)
        self.most_cells = max(self.most_cells, self.used_cells)
        if self.used_cells > self.cells:
            raise InternalError(f"{self.used_cells} cells are needed, {self.cells} exist")

    @property
    def used_cells(self) -> int:
        return len({cell for held in self._cache.values() for _, cell in held})

    def logits(self, row: int) -> Logits:
        values = self._views.get(row)
        if values is None:
            values = self._views[row] = np.zeros(self.vocabulary.size, np.float32)
            values[self._answer(self._rows[row])] = 8.0
        return values

    def sampler(self, params: SamplingParams, seed: int) -> FakeSampler:
        return FakeSampler(self, params, seed)

    def share(self, source: int, target: int, length: int) -> None:
        held = self._cache.get(source, [])
        if length > len(held) or self._cache.get(target):
            raise InternalError(f"cannot share {length} tokens of {source} with {target}")
        self._cache[target] = held[:length]

    def forget(self, sequence: int, start: int = 0) -> None:
        self._cache[sequence] = self._cache.get(sequence, [])[:start]

    def length(self, sequence: int) -> int:
        return len(self._cache.get(sequence, []))

    def save(self, sequence: int, start: int, length: int) -> Content:
        held = self._cache.get(sequence, [])[start : start + length]
        if len(held) < length:
            raise InternalError(f"cannot save {length} tokens of {sequence} from {start} on")
        self.saved_blocks += 1
        return np.array([token for token, _ in held], np.int32).view(np.uint8)

    def restore(self, sequence: int, start: int, length: int, content: Content) -> bool:
        held = self._cache.setdefault(sequence, [])
        tokens = content.view(np.int32).tolist()
        if len(held) != start or len(tokens) != length:
            raise InternalError(f"cannot restore {len(tokens)} tokens of {sequence} at {start}")
        for token in tokens:
            held.append((token, self._next_cell))
            self._next_cell += 1
        self.restored_tokens += length
        return True

    def close(self) -> None:
        self._cache.clear()


def adapter_shift(adapter: str) -> int:
    """What is added to each token that is computed with the adapter: the history then tells by which."""
    return 1000 * (1 + zlib.crc32(adapter.encode()) % 1000) if adapter else 0


def checksum_token(history: Sequence[int]) -> int:
    """A printable byte that depends on every token of the history and on their order."""
    digest = zlib.crc32(np.asarray(history, np.int32).tobytes())
    return 97 + digest % 26
