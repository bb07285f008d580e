"""Search and start of a large base: 100,000 chunks of 384 dimensions, without the embedder.

    python -m tests.bench.knowledge_index [--chunks 100000] [--queries 200] [--directory DIR]

The base is made up: texts of words as frequent as in natural language, vectors in clusters around a common
direction as embedders give them. Measured: the whole retrieval (words, vectors, feedback, fusion, texts) per
query; the graph's recall@10 against exact search; a start in a fresh process, from opening the database until
the first search is answered, graph file verified. With --directory the base is made once and kept there. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.knowledge.retrieve import Found, Query, Trace, Tuning, retrieve
from appliance.principal import LOCAL
from appliance.store import bases, documents, editions, files
from appliance.store.database import Connection, Database
from appliance.store.index import Index
from appliance.store.migrations import migrate
from appliance.store.rows import Base, Chunk, Edition, StoredFile
from appliance.store.terms import WordCounts

DIMENSIONS = 384
CHUNKS_PER_DOCUMENT = 100
WORDS_PER_CHUNK = 120
VOCABULARY = 60_000
QUERY_WORDS = 8
CLUSTERS = 2_000
LIMIT = 10  # passages, as OpenAI's search gives when it is told no number
BASE = "vs_bench"


class Made:
    """The made-up material, the same for the same seed."""

    def __init__(self, seed: int = 5) -> None:
        self._random = np.random.default_rng(seed)
        self._common = self._unit(1)[0]
        self._centres = self._unit(CLUSTERS)
        ranks = np.arange(1, VOCABULARY + 1)
        self._frequencies = (1 / ranks) / (1 / ranks).sum()

    def vectors(self, count: int) -> NDArray[np.float32]:
        places = self._random.integers(0, CLUSTERS, count)
        made = 2.0 * self._common + 0.7 * self._centres[places] + 0.7 * self._unit(count)
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    def text(self, words: int) -> str:
        chosen = self._random.choice(VOCABULARY, words, p=self._frequencies)
        return " ".join(f"w{word:x}" for word in chosen)

    def question(self, text: str, vector: NDArray[np.float32]) -> Query:
        """Some words of a chunk, and a vector near its own."""
        words = self._random.choice(text.split(), QUERY_WORDS)
        near = vector + 0.25 * self._unit(1)[0]
        return Query(" ".join(words), (near / np.linalg.norm(near)).astype(np.float32))

    def _unit(self, count: int) -> NDArray[np.float64]:
        made = self._random.standard_normal((count, DIMENSIONS))
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def fill(database: Database, made: Made, count: int, asked: int) -> tuple[int, list[Query]]:
    """The edition, and questions about it."""
    edition = database.write(_create).result()
    questions: list[Query] = []
    for document in range(count // CHUNKS_PER_DOCUMENT):
        part = made.vectors(CHUNKS_PER_DOCUMENT)
        texts = [made.text(WORDS_PER_CHUNK) for _ in range(CHUNKS_PER_DOCUMENT)]
        database.write(
            lambda connection, n=document, t=texts, v=part: _put(connection, edition, n, t, v)
        ).result()
        if len(questions) < asked and document % max(1, count // CHUNKS_PER_DOCUMENT // asked) == 0:
            questions.append(made.question(texts[7], part[7]))
    return edition, questions


def all_vectors(connection: Connection, edition: int) -> NDArray[np.float32]:
    """In the order of their chunks' ids."""
    return editions.changes(connection, editions.get(connection, edition), 0).vectors


def _create(connection: Connection) -> int:
    nothing = Edition(
        id=0,
        base=BASE,
        embedder="",
        fingerprint="",
        dimensions=DIMENSIONS,
        generation=0,
        graph_generation=0,
        graph_digest="",
    )
    base = Base(
        id=BASE,
        owner=LOCAL.id,
        name="bench",
        description="",
        metadata={},
        created_at=1.0,
        active_at=1.0,
        expires_days=None,
        chunk_tokens=256,
        overlap_tokens=0,
        edition=nothing,
    )
    bases.add(connection, base)
    edition = editions.add(connection, BASE, "bench", "bench", DIMENSIONS)
    bases.set_edition(connection, BASE, edition)
    return edition


def _put(
    connection: Connection, edition: int, number: int, texts: list[str], vectors: NDArray[np.float32]
) -> None:
    file = StoredFile(
        id=f"file-{number}",
        owner=LOCAL.id,
        name=f"{number}.txt",
        purpose="assistants",
        bytes=1,
        sha256="",
        created_at=float(number),
        expires_at=None,
    )
    files.add(connection, file)
    document = documents.add(
        connection,
        base=BASE,
        file=file.id,
        attributes={},
        chunk_tokens=256,
        overlap_tokens=0,
        created_at=float(number),
    )
    chunks = [Chunk(begins=0, ends=len(text), page=0, heading="", text=text) for text in texts]
    editions.add_chunks(connection, edition, document, chunks, vectors)
    documents.set_status(connection, document, "completed")


def open_index(database: Database, directory: Path, edition: int) -> Index:
    return database.read(
        lambda connection: Index(database, directory, connection, editions.get(connection, edition))
    )


def ask(
    database: Database, index: Index, edition: int, query: Query, counts: WordCounts
) -> tuple[float, Found, Trace]:
    """One retrieval as the service does it, and its seconds."""
    trace = Trace()
    begun = time.perf_counter()

    def work(connection: Connection) -> Found:
        index.refresh(connection)
        return retrieve(
            connection,
            index,
            edition,
            [query],
            LIMIT,
            tuning=Tuning(),
            counts=counts,
            documents=None,
            trace=trace,
        )

    found = database.read(work)
    return time.perf_counter() - begun, found, trace


def measure_start(directory: Path, edition: int) -> None:
    """In a fresh process: from opening the database to the first answer. Prints the seconds."""
    query = Query("w1f3 w2a", np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32))
    begun = time.perf_counter()
    database = Database(directory / "knowledge.db", migrate)
    index = open_index(database, directory, edition)
    assert index.has_graph
    ask(database, index, edition, query, WordCounts())
    print(time.perf_counter() - begun)
    database.close()


def made_base(
    database: Database, directory: Path, count: int, asked: int
) -> tuple[int, list[Query], dict[str, float]]:
    """The edition and its questions, made now or at another time, and how long the filling took."""
    texts, vectors = directory / "questions.json", directory / "questions.npy"
    if texts.exists():
        edition, asked_texts = json.loads(texts.read_text())
        kept = zip(asked_texts, np.load(vectors), strict=True)
        return edition, [Query(text, vector) for text, vector in kept], {}
    begun = time.perf_counter()
    edition, questions = fill(database, Made(), count, asked)
    seconds = time.perf_counter() - begun
    np.save(vectors, np.stack([query.vector for query in questions]))
    texts.write_text(json.dumps([edition, [query.text for query in questions]]))
    print(f"filled in {seconds:.0f} s", flush=True)
    return edition, questions, {"fill_seconds": round(seconds, 1)}


def measure(directory: Path, count: int, asked: int) -> dict[str, object]:
    directory.mkdir(parents=True, exist_ok=True)
    database = Database(directory / "knowledge.db", migrate)
    edition, questions, figures = made_base(database, directory, count, asked)
    counts = WordCounts()
    index = open_index(database, directory, edition)
    if not index.has_graph:
        exact_times = [ask(database, index, edition, query, counts)[0] for query in questions[:20]]
        figures["exact_search_p50_ms"] = round(statistics.median(exact_times) * 1000, 2)
        begun = time.perf_counter()
        index.maintain(threading.Event())
        figures["graph_build_seconds"] = round(time.perf_counter() - begun, 1)
        print(f"graph built and saved in {figures['graph_build_seconds']} s", flush=True)
    vectors = database.read(lambda connection: all_vectors(connection, edition))
    assert index.has_graph
    first = int(index.ids[0])
    found = 0
    for query in questions:
        ids, _ = index.search(query.vector, 10)
        nearest = np.argpartition(-(vectors @ query.vector), 10)[:10]
        found += len(set((ids - first).tolist()) & set(nearest.tolist()))
    times, stages = [], {}
    for _ in range(2):
        times = []
        stages = {}
        for query in questions:
            seconds, _, trace = ask(database, index, edition, query, counts)
            times.append(seconds)
            for stage, taken in trace.seconds.items():
                stages.setdefault(stage, []).append(taken)
    database.close()
    words = [sys.executable, "-m", "tests.bench.knowledge_index", "--start", str(directory), str(edition)]
    starts = [
        float(subprocess.run(words, capture_output=True, text=True, check=True).stdout) for _ in range(3)
    ]
    return {
        "chunks": count,
        "search_p50_ms": round(statistics.median(times) * 1000, 2),
        "search_p95_ms": round(sorted(times)[int(len(times) * 0.95)] * 1000, 2),
        "stage_p50_ms": {name: round(statistics.median(taken) * 1000, 2) for name, taken in stages.items()},
        "recall_at_10": round(found / (10 * len(questions)), 4),
        "start_seconds": round(statistics.median(starts), 3),
        "graph_megabytes": round(sum(path.stat().st_size for path in directory.glob("*.graph")) / 1e6),
        **figures,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="search and start of a large knowledge base")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.start:
        measure_start(Path(arguments.start[0]), int(arguments.start[1]))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(arguments.directory or Path(temporary), arguments.chunks, arguments.queries)
    print(json.dumps({"benchmark": "knowledge_index", "results": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
