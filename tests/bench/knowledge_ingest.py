"""Ingest speed against a bare embedding loop over the same chunks.

    python -m tests.bench.knowledge_ingest [--documents 160] [--rounds 3]

Cranfield's abstracts are put into fresh bases twice: each as a small file of its own, and joined to a few
long ones. Timed is everything from the moment that the files are queued until the last is durable and found:
extractor process, chunking, embedding, SQLite, index. The bare loop then embeds the same chunks with the same
encoder process, and does nothing else. The ratio is loop ÷ ingest; rounds alternate, medians count. Beside
the ratio of seconds stands that of processor time, of all processes together: it says the same of a machine
on which nothing waits, and hardly depends on what else runs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from appliance.config.schema import Knowledge as Settings
from appliance.knowledge.chunk import embedded_text
from appliance.knowledge.embedding import BATCH
from appliance.knowledge.service import Knowledge
from appliance.knowledge.views import NewDocument
from appliance.principal import LOCAL
from appliance.store import bases, documents, editions
from appliance.store.database import Connection, Database
from appliance.store.migrations import migrate
from appliance.store.rows import Base
from appliance.workers.handles import EncoderHandle
from tests.bench.knowledge import DATA, EMBEDDER, read_cranfield
from tests.knowledge.conftest import opened_with_encoder, upload

AT_ONCE = 4  # requests of the bare loop under way, so that the encoder never waits for the next
LONG_FILES = 4


def small(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{number}.md", text) for number, text in enumerate(texts)]


def long(texts: Sequence[str]) -> list[tuple[str, str]]:
    each = -(-len(texts) // LONG_FILES)
    return [(f"{begin}.md", "\n\n".join(texts[begin : begin + each])) for begin in range(0, len(texts), each)]


def processor_seconds() -> float:
    """What this process and all below it have used, those that have ended included."""
    me = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (me, *me.children(recursive=True)))


async def ingest(knowledge: Knowledge, files: list[tuple[str, str]]) -> tuple[Base, float]:
    """The filled base, and the seconds from queueing to the last document."""
    base = await knowledge.bases.create(LOCAL, "speed")
    new = [NewDocument((await upload(knowledge, name, text)).id) for name, text in files]
    begun = time.perf_counter()
    await knowledge.documents.add(LOCAL, base.id, new)
    counts = await knowledge.documents.wait_until_read(LOCAL, base.id)
    seconds = time.perf_counter() - begun
    assert counts.completed == len(files), counts
    return base, seconds


def chunk_texts(directory: Path, base: Base) -> list[str]:
    """What the embedder saw of the base."""

    def work(connection: Connection) -> list[str]:
        edition = bases.edition_of(connection, base.id).id
        return [
            embedded_text(chunk.heading, chunk.text)
            for document in documents.of_base(connection, base.id)
            for chunk in editions.chunks_of(connection, edition, document.id)
        ]

    database = Database(directory / "knowledge" / "knowledge.db", migrate)
    try:
        return database.read(work)
    finally:
        database.close()


async def bare_loop(encoder: EncoderHandle, texts: list[str]) -> float:
    """Seconds to embed the texts, those of like length together."""
    ordered = sorted(texts, key=len)
    room = asyncio.Semaphore(AT_ONCE)

    async def embed(part: list[str]) -> None:
        async with room:
            await encoder.embed(EMBEDDER, tuple(part), kind="passage")

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for begin in range(0, len(ordered), BATCH):
            group.create_task(embed(ordered[begin : begin + BATCH]))
    return time.perf_counter() - begun


async def measure(directory: Path, texts: list[str], rounds: int) -> dict[str, object]:
    figures: dict[str, object] = {}
    # Every round has abstracts of its own, so that nothing is embedded from memory.
    parts = [texts[begin :: 2 * rounds] for begin in range(2 * rounds)]
    settings = Settings(cache_entries=0)
    async with opened_with_encoder(directory, (EMBEDDER,), settings) as (knowledge, encoder):
        await ingest(knowledge, [("warm.md", "A first document warms the extractor and the encoder.")])
        for shape, made in (("small_files", small), ("long_files", long)):
            ratios, rates, processor = [], [], []
            for _ in range(rounds):
                files = made(parts.pop())
                at_start = processor_seconds()
                base, seconds = await ingest(knowledge, files)
                ingest_used = processor_seconds() - at_start
                chunks = await asyncio.to_thread(chunk_texts, directory, base)
                at_start = processor_seconds()
                bare = await bare_loop(encoder, chunks)
                bare_used = processor_seconds() - at_start
                processor.append(bare_used / ingest_used)
                ratios.append(bare / seconds)
                rates.append(len(chunks) / seconds)
                print(
                    f"{shape}: {len(chunks)} chunks, ingest {seconds:.1f} s, bare {bare:.1f} s; "
                    f"processor {ingest_used:.1f} s, bare {bare_used:.1f} s",
                    flush=True,
                )
            figures[shape] = {
                "files": len(files),
                "chunks": len(chunks),
                "chunks_per_second": round(statistics.median(rates), 2),
                "ratio_to_bare_loop": round(statistics.median(ratios), 3),
                "processor_ratio": round(statistics.median(processor), 3),
            }
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="ingest speed of knowledge bases")
    parser.add_argument("--documents", type=int, default=160, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args(argv)
    if not (arguments.data / "cran.all.1400.xml").is_file():
        print(f"skipped: {arguments.data} has no evaluation data")
        return 0
    texts = [
        text
        for _, text in read_cranfield(arguments.data).documents[: arguments.documents * 2 * arguments.rounds]
    ]
    with tempfile.TemporaryDirectory() as temporary:
        figures = asyncio.run(measure(Path(temporary), texts, arguments.rounds))
    print(json.dumps({"benchmark": "knowledge_ingest", "goal": 0.9, "results": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
