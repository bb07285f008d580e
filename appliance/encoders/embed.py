"""Texts to vectors with one embedding model.

Token ids given by a client are the text's own, without special tokens: the model's prefix and special tokens
are put around them as around a text, so a text and its ids give the same vector. Ids that already begin and
end with the model's special tokens are complete, and taken as they stand.

An input that does not fit is refused, never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from appliance.encoders.loaded import LoadedModel
from appliance.encoders.rows import Row, single_row
from appliance.encoders.work import Work
from appliance.errors import ContextLengthExceeded, InvalidValue, SetupError, UnsupportedParameter
from appliance.launch import EncoderModel
from appliance.records import Embed, Embeddings, ModelFacts, PromptKind

Ids = tuple[int, ...]


class Embedder:
    def __init__(self, model: EncoderModel, threads: int) -> None:
        """Raises SetupError; see LoadedModel."""
        self._loaded = LoadedModel(model, rank=3, threads=threads)
        self._model, self._tokenizer = model, self._loaded.tokenizer
        self.width = self._loaded.width
        if model.dimensions not in (0, self.width):
            raise SetupError(
                f"{model.name}: the graph gives {self.width} dimensions; its manifest says {model.dimensions}"
            )
        query, passage = self._tokenizer.encode([model.query_prefix.rstrip(), model.passage_prefix.rstrip()])
        self._prefixes: dict[PromptKind, tuple[str, Ids]] = {
            "query": (model.query_prefix, query),
            "passage": (model.passage_prefix, passage),
        }

    @property
    def facts(self) -> ModelFacts:
        return self._loaded.facts(self.width)

    def prepare(self, command: Embed) -> Work:
        """The request's rows.

        Raises ContextLengthExceeded for an input over the model's limit, InvalidValue for a token id or
        `dimensions` out of range, UnsupportedParameter for `dimensions` the model was not trained for.
        """
        self._check_dimensions(command.dimensions)
        texts = [place for place, entry in enumerate(command.inputs) if isinstance(entry, str)]
        encoded = dict(zip(texts, self._encode(command, texts), strict=True))
        rows = []
        for place, entry in enumerate(command.inputs):
            ids = (
                self._frame(encoded[place]) if isinstance(entry, str) else self._adopt(place, entry, command)
            )
            if len(ids) > self._model.max_tokens:
                raise self._too_long(place, f"has {len(ids)} tokens")
            rows.append(single_row(ids))
        return Work(tuple(rows))

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """One pooled vector per row, [rows, width], of length 1 if the model's are."""
        hidden, mask = self._loaded.run(rows)
        vectors = hidden[:, 0] if self._model.pooling == "cls" else mean_pool(hidden, mask)
        return normalized(vectors) if self._model.normalize else vectors

    def reply(self, command: Embed, work: Work, vectors: NDArray[np.float32]) -> Embeddings:
        """The answer, with `vectors` [inputs, width] shortened to the dimensions asked for."""
        dimensions = command.dimensions or self.width
        if dimensions < self.width:
            vectors = vectors[:, :dimensions]
            vectors = normalized(vectors) if self._model.normalize else vectors
        return Embeddings(
            id=command.id,
            vectors=np.ascontiguousarray(vectors, dtype="<f4").tobytes(),
            dimensions=dimensions,
            tokens=work.tokens,
        )

    def _encode(self, command: Embed, places: Sequence[int]) -> list[Ids]:
        prefix, _ = self._prefixes[command.kind]
        texts = [prefix + cast(str, command.inputs[place]) for place in places]
        for place, text in zip(places, texts, strict=True):
            if self._tokenizer.count_exceeds(text, self._model.max_tokens):
                raise self._too_long(
                    place, f"has over {self._model.max_tokens} tokens in {len(text)} characters"
                )
        return self._tokenizer.encode(texts)

    def _frame(self, ids: Ids) -> Ids:
        frame = self._tokenizer.single
        return frame.opening + ids + frame.closing

    def _adopt(self, place: int, ids: Ids, command: Embed) -> Ids:
        """A client's token ids, framed unless they are already."""
        wrong = next((id for id in ids if not 0 <= id < self._tokenizer.vocabulary), None)
        if wrong is not None:
            raise InvalidValue(
                f"input[{place}] holds the token id {wrong}; those of {self._model.name} are"
                f" 0 to {self._tokenizer.vocabulary - 1}",
                param=f"input[{place}]",
            )
        if self._tokenizer.single.holds(ids):
            return ids
        return self._frame(self._prefixes[command.kind][1] + ids)

    def _check_dimensions(self, dimensions: int | None) -> None:
        if dimensions is None or dimensions == self.width:
            return
        if not 1 <= dimensions <= self.width:
            raise InvalidValue(
                f"dimensions is {dimensions}; {self._model.name} gives 1 to {self.width}", param="dimensions"
            )
        if not self._model.truncatable:
            raise UnsupportedParameter(
                f"{self._model.name} always gives {self.width} dimensions: it was not trained for shorter"
                f" vectors, so dimensions must be {self.width} or left out",
                param="dimensions",
            )

    def _too_long(self, place: int, finding: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"input[{place}] {finding}, special tokens and prefix included; {self._model.name} takes at most"
            f" {self._model.max_tokens}",
            param=f"input[{place}]",
        )


def mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean of each row's unmasked token vectors: [rows, tokens, width] → [rows, width]."""
    weights = mask.astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    pooled: NDArray[np.float32] = np.matmul(weights[:, None, :], hidden)[:, 0]
    return pooled


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its Euclidean length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return result
