"""kill -9 at random moments of ingest, index save and recovery: nothing acknowledged is lost.

    python -m tests.faults.knowledge_kills [--count 1000] [--seed N]

After every kill the store is looked at from outside: every acknowledged document is there, complete and with
the text it was given; every acknowledged removal is gone; SQLite's own check is clean; full-text index,
vectors and the search index opened from its file hold exactly SQLite's chunks. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.knowledge.views import NewDocument
from appliance.principal import LOCAL
from appliance.store import documents, editions
from appliance.store.database import Connection, Database
from appliance.store.index import Index
from appliance.store.migrations import migrate
from tests.faults.knowledge_writer import ABSORB_FROM, DOCUMENTS, GRAPH_FROM, content
from tests.knowledge.conftest import opened, pieces

OPEN_SECONDS = 60.0
LONGEST_LIFE = 1.2  # seconds after the store is open


@dataclass
class Tally:
    kills: int = 0
    kills_in_recovery: int = 0
    acknowledged: int = 0
    lost: int = 0
    mismatches: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Expected:
    """What the writers have said: documents by file id, and those that may or may not be there."""

    there: dict[str, int] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        match line.split():
            case ["in", number, file]:
                self.there[file] = int(number)
            case ["going", file]:
                self.there.pop(file, None)
                self.unsure.add(file)
            case ["gone", file]:
                self.unsure.discard(file)
                self.gone.add(file)


async def fill_cache(directory: Path) -> None:
    """Embed every document once, so that the writers find all vectors in the cache."""
    async with opened(directory / "warm") as knowledge:
        base = await knowledge.bases.create(LOCAL, "warm")
        for number in range(DOCUMENTS):
            file = await knowledge.files.store(
                LOCAL, f"{number}.md", "assistants", pieces(content(number).encode())
            )
            await knowledge.documents.add(LOCAL, base.id, [NewDocument(file.id)])
        await knowledge.documents.wait_until_read(LOCAL, base.id)
        await knowledge.search(LOCAL, base.id, ["Fact 1.0"], 3)
    (directory / "warm" / "cache").rename(directory / "cache")


def live_and_die(directory: Path, seed: int, chance: random.Random, expected: Expected, tally: Tally) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.knowledge_writer", str(directory), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if tally.kills else None,
        text=True,
        start_new_session=True,
    )
    assert writer.stdout is not None
    opened_at, answered_at = threading.Event(), threading.Event()
    lines: list[str] = []

    def read() -> None:
        assert writer.stdout is not None
        for line in writer.stdout:
            lines.append(line)
            opened_at.set()
            if line.startswith("in "):
                answered_at.set()
        opened_at.set()
        answered_at.set()

    reader = threading.Thread(target=read)
    reader.start()
    match chance.choices(("starting", "open", "working"), (1, 1, 3))[0]:
        case "starting":
            time.sleep(chance.uniform(0.3, 1.5))
            tally.kills_in_recovery += not opened_at.is_set()
        case "open":
            assert opened_at.wait(OPEN_SECONDS)
            time.sleep(chance.uniform(0.0, LONGEST_LIFE))
        case "working":
            assert answered_at.wait(OPEN_SECONDS)
            time.sleep(chance.uniform(0.0, LONGEST_LIFE))
    died = writer.poll()
    if died is not None:
        tally.problems.append(f"the writer ended by itself with {died}")
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait()
    reader.join()
    writer.stdout.close()
    for line in lines:
        expected.take(line)


def check(directory: Path, expected: Expected, tally: Tally) -> None:
    path = directory / "knowledge" / "knowledge.db"
    if not path.exists():
        return
    database = Database(path, migrate)
    try:
        database.read(lambda connection: _check(connection, database, directory, expected, tally))
    finally:
        database.close()


def _check(
    connection: Connection, database: Database, directory: Path, expected: Expected, tally: Tally
) -> None:
    verdict = connection.pragma("integrity_check")
    if verdict != "ok":
        tally.mismatches += 1
        tally.problems.append(f"integrity_check: {verdict}")
    row = connection.execute("SELECT id, edition FROM bases").fetchone()
    if row is None:
        if expected.there:
            tally.lost += len(expected.there)
        return
    base, edition_id = str(row[0]), int(row[1])
    edition = editions.get(connection, edition_id)
    found = {document.file: document for document in documents.of_base(connection, base)}
    for file, number in expected.there.items():
        document = found.get(file)
        if document is None or document.status != "completed":
            tally.lost += 1
            tally.problems.append(f"{file} is {document.status if document else 'not there'}")
        elif documents.text(connection, document.id)[0] != content(number).replace("# ", "", 1):
            tally.lost += 1
            tally.problems.append(f"{file} has another text")
        elif not editions.chunks_of(connection, edition_id, document.id):
            tally.lost += 1
            tally.problems.append(f"{file} has no chunks")
        elif not (directory / "knowledge" / "uploads" / file).exists():
            tally.lost += 1
            tally.problems.append(f"{file} has no bytes")
    for file in expected.gone & found.keys():
        tally.mismatches += 1
        tally.problems.append(f"{file} is there again")
    chunks = {
        int(each[0]) for each in connection.execute("SELECT id FROM chunks WHERE edition = ?", (edition_id,))
    }
    terms = {int(each[0]) for each in connection.execute(f"SELECT id FROM terms_{edition_id:d}_docsize")}
    vectors = set(editions.changes(connection, edition, 0).added.tolist())
    index = Index(database, directory / "knowledge" / "graphs", connection, edition, GRAPH_FROM, ABSORB_FROM)
    if not chunks == terms == vectors == set(index.ids.tolist()):
        tally.mismatches += 1
        tally.problems.append(
            f"chunks {len(chunks)}, terms {len(terms)}, vectors {len(vectors)}, index {len(index.ids)}"
        )


def run(count: int, seed: int, progress: bool = False) -> Tally:
    chance, tally, expected = random.Random(seed), Tally(), Expected()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        asyncio.run(fill_cache(directory))
        for kill in range(count):
            live_and_die(directory, seed + kill, chance, expected, tally)
            tally.kills += 1
            check(directory, expected, tally)
            if progress and kill % 25 == 24:
                print(f"{kill + 1} kills, {len(expected.there)} documents, {tally.problems[-3:]}", flush=True)
        tally.acknowledged = len(expected.there) + len(expected.gone)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill -9 against knowledge bases")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    begun = time.monotonic()
    tally = run(arguments.count, arguments.seed, progress=True)
    figures = vars(tally) | {"seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps({"benchmark": "knowledge_kills", "results": figures}))
    return 1 if tally.lost or tally.mismatches or tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
