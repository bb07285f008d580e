"""Scores of documents against a query with one cross-encoder.

Query and document share the model's context. A query that needs more than half of it is refused; a document
that does not fit beside the query is scored by its beginning, and a warning says so and which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.encoders.loaded import LoadedModel
from appliance.encoders.rows import Row
from appliance.encoders.tokenizer import CHARACTERS_PER_TOKEN
from appliance.encoders.work import Work
from appliance.errors import ContextLengthExceeded, SetupError
from appliance.launch import EncoderModel
from appliance.records import ModelFacts, Rerank, Scores

Ids = tuple[int, ...]

NAMED_DOCUMENTS = 20  # a warning travels in a header, which has its limits


class Reranker:
    def __init__(self, model: EncoderModel, threads: int) -> None:
        """Raises SetupError; see LoadedModel."""
        self._loaded = LoadedModel(model, rank=2, threads=threads)
        self._model, self._tokenizer = model, self._loaded.tokenizer
        if self._loaded.width != 1:
            raise SetupError(
                f"{model.name}: the graph gives {self._loaded.width} values per pair; expected one"
            )

    @property
    def facts(self) -> ModelFacts:
        return self._loaded.facts()

    def prepare(self, command: Rerank) -> Work:
        """One row per document. Raises ContextLengthExceeded for a query over half the model's limit."""
        query = self._encode_query(command.query)
        room = self._model.max_tokens - self._tokenizer.pair.size - len(query)
        documents, cut = self._encode_documents(command.documents, room)
        rows = tuple(self._pair(query, document) for document in documents)
        return Work(rows, _describe(cut, room, len(query)))

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """One raw logit per row, [rows, 1]."""
        logits, _ = self._loaded.run(rows)
        return logits

    def reply(self, command: Rerank, work: Work, logits: NDArray[np.float32]) -> Scores:
        return Scores(
            id=command.id, logits=tuple(logits[:, 0].tolist()), tokens=work.tokens, warnings=work.warnings
        )

    def _encode_query(self, text: str) -> Ids:
        limit = (self._model.max_tokens - self._tokenizer.pair.size) // 2
        if self._tokenizer.count_exceeds(text, limit):
            raise self._too_long(f"over {limit} tokens in {len(text)} characters", limit)
        (query,) = self._tokenizer.encode([text])
        if len(query) > limit:
            raise self._too_long(f"{len(query)} tokens", limit)
        return query

    def _encode_documents(self, texts: Sequence[str], room: int) -> tuple[list[Ids], list[int]]:
        """Each document's tokens, at most `room`, and which documents were cut to fit."""
        # Of a very long document only the part that can matter is tokenised. Twice the room has to be left
        # over, as in `count_exceeds`, so that cutting the text changes no token that is kept.
        beginnings = [text[: 2 * CHARACTERS_PER_TOKEN * room] for text in texts]
        encoded = self._tokenizer.encode(beginnings)
        unsure = [
            index
            for index, (text, beginning) in enumerate(zip(texts, beginnings, strict=True))
            if len(beginning) < len(text) and len(encoded[index]) <= 2 * room
        ]
        for index, ids in zip(unsure, self._tokenizer.encode([texts[i] for i in unsure]), strict=True):
            encoded[index] = ids
        cut = [index for index, ids in enumerate(encoded) if len(ids) > room]
        return [ids[:room] for ids in encoded], cut

    def _pair(self, query: Ids, document: Ids) -> Row:
        frame = self._tokenizer.pair
        first = frame.opening + query + frame.middle
        tokens = np.asarray(first + document + frame.closing, dtype=np.int32)
        return Row(tokens, len(first), frame.second_type)

    def _too_long(self, finding: str, limit: int) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"the query has {finding}; it shares the {self._model.max_tokens} of {self._model.name} with each"
            f" document and may have at most {limit}",
            param="query",
        )


def _describe(cut: Sequence[int], room: int, query: int) -> tuple[str, ...]:
    if not cut:
        return ()
    names = ", ".join(f"documents[{index}]" for index in cut[:NAMED_DOCUMENTS])
    more = f" and {len(cut) - NAMED_DOCUMENTS} more" if len(cut) > NAMED_DOCUMENTS else ""
    return (
        f"{names}{more}: longer than fits beside the query of {query} tokens; scored by the first {room}"
        " tokens",
    )
