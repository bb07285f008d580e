"""Text to token ids, and the special tokens a model wants around them: the only import of tokenizers.

Padding and truncation that a tokenizer.json carries are switched off: how long an input may be is decided by
`embed` and `rerank`, aloud, and padding by `rows`. Text is always text: a special token's name inside it
(`[SEP]`) is spelled out, so that a document cannot pose as the end of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as NativeTokenizer

from appliance.errors import InternalError, SetupError

Ids = tuple[int, ...]

# Far more characters than a token ever stands for in running text; see `count_exceeds`.
CHARACTERS_PER_TOKEN = 64


@dataclass(frozen=True)
class Frame:
    """The special tokens around one text."""

    opening: Ids
    closing: Ids

    @property
    def size(self) -> int:
        return len(self.opening) + len(self.closing)

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether the ids already begin and end with these special tokens."""
        fits = len(ids) >= self.size > 0
        end = len(ids) - len(self.closing)
        return fits and tuple(ids[: len(self.opening)]) == self.opening and tuple(ids[end:]) == self.closing


@dataclass(frozen=True)
class PairFrame:
    """The special tokens around two texts, and the token type of the second with its closing tokens."""

    opening: Ids
    middle: Ids
    closing: Ids
    second_type: int

    @property
    def size(self) -> int:
        return len(self.opening) + len(self.middle) + len(self.closing)


class Tokenizer:
    """A model's tokenizer. `vocabulary` is one more than the highest token id."""

    def __init__(self, path: str, *, offset: int = 0, size: int = 0) -> None:
        """Read the tokenizer.json at `offset` of the file; `size` 0 means to the file's end.

        Raises SetupError when it cannot be read or is not a tokenizer.
        """
        try:
            with Path(path).open("rb") as file:
                file.seek(offset)
                content = file.read(size or -1)
        except OSError as error:
            raise SetupError(f"{path}: the tokenizer cannot be read: {error.strerror}") from error
        try:
            self._native = NativeTokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain Exception
            raise SetupError(f"{path}: not a tokenizer.json: {error}") from error
        self._native.no_padding()
        self._native.no_truncation()
        self._native.encode_special_tokens = True
        self.vocabulary = 1 + max(self._native.get_vocab(with_added_tokens=True).values(), default=-1)
        self.single, self.pair = _read_frames(path, self._native)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Each text's token ids without special tokens. Raises InternalError when the library fails."""
        try:
            encodings = self._native.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises plain Exception
            raise InternalError(f"the text could not be tokenised: {error}") from error
        return [tuple(encoding.ids) for encoding in encodings]

    def count_exceeds(self, text: str, limit: int) -> bool:
        """Whether a very long text certainly has more than `limit` tokens, learned from its beginning only.

        False means unknown. The beginning must hold twice the limit, because cutting it off may have changed
        the tokens at the cut.
        """
        head = CHARACTERS_PER_TOKEN * limit
        return len(text) > head and len(self.encode([text[:head]])[0]) > 2 * limit


def _read_frames(path: str, native: NativeTokenizer) -> tuple[Frame, PairFrame]:
    """What the tokenizer's own template puts around a text and around a pair, learned by asking it."""
    one, two = native.encode("a"), native.encode("a", "b")
    first, second = _span(one, 0), None
    if first is not None:
        single = Frame(tuple(one.ids[: first[0]]), tuple(one.ids[first[1] :]))
        first, second = _span(two, 0), _span(two, 1)
    if first is None or second is None:
        raise SetupError(f"{path}: the tokenizer finds no token in a plain letter")
    pair = PairFrame(
        opening=tuple(two.ids[: first[0]]),
        middle=tuple(two.ids[first[1] : second[0]]),
        closing=tuple(two.ids[second[1] :]),
        second_type=two.type_ids[second[0]],
    )
    return single, pair


def _span(encoding: Encoding, sequence: int) -> tuple[int, int] | None:
    """Where the sequence's own tokens begin and end."""
    places = [place for place, owner in enumerate(encoding.sequence_ids) if owner == sequence]
    return (places[0], places[-1] + 1) if places else None
