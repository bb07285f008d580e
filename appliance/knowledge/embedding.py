"""Texts to vectors of length 1, through the encoder process and the cache.

A fingerprint stands for everything that decides what vector a text gets: weights, tokenizer, pooling,
prefixes. Vectors of different fingerprints are never compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import ModelNotFound, Unavailable
from appliance.knowledge.extract.messages import Measure
from appliance.launch import EncoderModel
from appliance.records import PromptKind
from appliance.store.vector_cache import VectorCache
from appliance.workers.handles import EncoderHandle
from models.manifest import Manifest

BATCH = 16
REQUESTS_UNDER_WAY = 4  # enough to keep the encoder busy, few enough that a question gets through

# Questions with their answers, from fields that have nothing to do with each other: they tell which cosine
# an embedder gives to what belongs together, and which to what does not.
PROBES = (
    ("How long does bread dough need to rise?", "Let the dough rest in a warm place for about two hours."),
    ("Which planet has the most moons?", "More than a hundred natural satellites orbit Saturn."),
    ("How do I change a bicycle tyre?", "Take the wheel off, lift the tyre with levers and swap the tube."),
    ("When was the printing press invented?", "Gutenberg built his press with movable type around 1440."),
    ("What causes inflation?", "Prices rise when money grows faster than the goods it can buy."),
    ("Why do leaves turn red in autumn?", "As chlorophyll breaks down, other pigments of the leaf show."),
    ("How is an index added to a table?", "CREATE INDEX speeds up queries that filter by that column."),
    ("What does a violin string consist of?", "Strings have a core of gut, steel or nylon wound with metal."),
)


@dataclass(frozen=True)
class ServedEmbedder:
    """An embedding model that the encoder serves, and its fingerprint."""

    model: EncoderModel
    fingerprint: str

    @property
    def measure(self) -> Measure:
        model = self.model
        return Measure(
            tokenizer=model.tokenizer,
            offset=model.tokenizer_offset,
            bytes=model.tokenizer_bytes,
            max_tokens=model.max_tokens,
            prefix=model.passage_prefix,
        )


def fingerprint(manifest: Manifest) -> str:
    """What the vectors of this model depend on, as one hash."""
    facts = {
        "files": sorted((file.path, file.sha256) for file in manifest.files),
        "encoding": msgspec.to_builtins(manifest.encoding),
        "pooling": msgspec.to_builtins(manifest.pooling),
    }
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


class Embedding:
    def __init__(
        self, encoder: EncoderHandle | None, served: Sequence[ServedEmbedder], cache: VectorCache
    ) -> None:
        self._encoder, self._cache = encoder, cache
        self._served = {each.model.name: each for each in served}
        self._room = asyncio.Semaphore(REQUESTS_UNDER_WAY)
        self._calibrations: dict[str, tuple[float, float]] = {}

    def default(self) -> ServedEmbedder:
        """The embedder that new bases get: one that lists most languages. Raises Unavailable."""
        if not self._served:
            raise Unavailable("no embedding model is served, and a knowledge base needs one")
        return max(self._served.values(), key=lambda each: len(each.model.languages))

    def get(self, name: str) -> ServedEmbedder:
        """Raises ModelNotFound."""
        if name not in self._served:
            raise ModelNotFound(
                f"there is no embedding model {name!r} here; there are: {', '.join(self._served) or 'none'}",
                param="model",
            )
        return self._served[name]

    def find(self, fingerprint: str) -> ServedEmbedder | None:
        return next((each for each in self._served.values() if each.fingerprint == fingerprint), None)

    async def embed(
        self, served: ServedEmbedder, texts: Sequence[str], kind: PromptKind
    ) -> NDArray[np.float32]:
        """One vector per text, [texts, dimensions]; those seen before come out of the cache."""
        keys = [_key(served.fingerprint, kind, text) for text in texts]
        found = await asyncio.to_thread(self._cache.get, keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            computed = await self._compute(served, list(missing.values()), kind)
            fresh = {key: row.tobytes() for key, row in zip(missing, computed, strict=True)}
            await asyncio.to_thread(self._cache.put, fresh)
            found |= fresh
        return np.frombuffer(b"".join(found[key] for key in keys), "<f4").reshape(len(texts), -1)

    async def calibration(self, served: ServedEmbedder) -> tuple[float, float]:
        """The mean cosine of questions with answers to something else, and with their own."""
        if served.fingerprint not in self._calibrations:
            questions = await self.embed(served, [question for question, _ in PROBES], "query")
            answers = await self.embed(served, [answer for _, answer in PROBES], "passage")
            cosines = questions @ answers.T
            own = np.eye(len(PROBES), dtype=bool)
            self._calibrations[served.fingerprint] = (float(cosines[~own].mean()), float(cosines[own].mean()))
        return self._calibrations[served.fingerprint]

    async def _compute(
        self, served: ServedEmbedder, texts: list[str], kind: PromptKind
    ) -> NDArray[np.float32]:
        encoder = self._encoder
        if encoder is None:
            raise Unavailable("no embedding model is served, and a knowledge base needs one")
        room = self._room if kind == "passage" else contextlib.nullcontext()
        # Texts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))

        async def compute(places: list[int]) -> NDArray[np.float32]:
            async with room:
                reply = await encoder.embed(
                    served.model.name, tuple(texts[place] for place in places), kind=kind
                )
            return np.frombuffer(reply.vectors, "<f4").reshape(len(places), -1)

        batches = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(compute(places)) for places in batches]
        vectors = np.concatenate([task.result() for task in tasks])
        if not served.model.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        result = np.empty_like(vectors)
        result[order] = vectors
        return result


def _key(fingerprint: str, kind: PromptKind, text: str) -> bytes:
    return hashlib.sha256(f"{fingerprint}\0{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
