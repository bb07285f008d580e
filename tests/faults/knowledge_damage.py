"""Damaged index files: flipped bits, zeroed pages, truncation and more never crash and never answer wrongly.

    python -m tests.faults.knowledge_damage [--count 500] [--seed N]

Each case damages a copy of a sound graph file, opens the index over it and compares searches with exact ones.
Cases run in child processes, a part each, so that a crash is counted rather than suffered. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from appliance.store import editions
from appliance.store.index import Index
from tests.store.conftest import DIMENSIONS, Shelf

CHUNKS = 400
GRAPH_FROM = 50
PART = 100
PAGE = 4096
KINDS = ("flip", "flips", "zero page", "truncate", "swap pages", "grow", "noise", "empty")


def damage(content: bytes, kind: str, chance: random.Random) -> bytes:
    data = bytearray(content)
    place = chance.randrange(len(data))
    page = chance.randrange(len(data) // PAGE) * PAGE
    match kind:
        case "flip":
            data[place] ^= 1 << chance.randrange(8)
        case "flips":
            for _ in range(20):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "zero page":
            data[page : page + PAGE] = bytes(PAGE)
        case "truncate":
            del data[place:]
        case "swap pages":
            other = chance.randrange(len(data) // PAGE) * PAGE
            first, second = data[page : page + PAGE], data[other : other + PAGE]
            data[page : page + PAGE], data[other : other + PAGE] = second, first
        case "grow":
            data += chance.randbytes(chance.randrange(1, PAGE))
        case "noise":
            data[place : place + 64] = chance.randbytes(len(data[place : place + 64]))
        case "empty":
            data.clear()
    return bytes(data)


def open_index(shelf: Shelf) -> Index:
    return shelf.database.read(
        lambda connection: Index(
            shelf.database,
            shelf.directory,
            connection,
            editions.get(connection, shelf.edition),
            GRAPH_FROM,
        )
    )


def run_part(count: int, seed: int) -> dict[str, int]:
    """One child's cases: how many were refused, were used although unharmed, and answered wrongly."""
    chance = random.Random(seed)
    tally = {"cases": 0, "refused": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as temporary:
        shelf = Shelf(Path(temporary))
        shelf.put(CHUNKS)
        open_index(shelf).maintain(threading.Event())
        (path,) = shelf.directory.glob("*.graph")
        sound, truth = path.read_bytes(), shelf.truth()
        for _ in range(count):
            spoilt = damage(sound, chance.choice(KINDS), chance)
            path.write_bytes(spoilt)
            index = open_index(shelf)
            tally["cases"] += 1
            tally["refused"] += not index.has_graph
            is_right = index.has_graph == (spoilt == sound)
            for _ in range(3):
                query = shelf.vectors(1)[0]
                _, scores = index.search(query, 10)
                exact = np.sort(truth.vectors @ query)[::-1][:10]
                is_right &= bool(np.allclose(scores, exact, atol=1e-5))
            tally["wrong"] += not is_right
        shelf.database.close()
    return tally


def run(count: int, seed: int) -> dict[str, int]:
    total = {"cases": 0, "refused": 0, "wrong": 0, "crashes": 0}
    for part, begin in enumerate(range(0, count, PART)):
        words = ["--part", str(min(PART, count - begin)), "--seed", str(seed + part)]
        child = subprocess.run(
            [sys.executable, "-m", "tests.faults.knowledge_damage", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            total["crashes"] += 1
            print(child.stderr, file=sys.stderr)
            continue
        for name, number in json.loads(child.stdout.splitlines()[-1]).items():
            total[name] += number
    return total


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="damaged index files of knowledge bases")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part is not None:
        print(json.dumps(run_part(arguments.part, arguments.seed)))
        return 0
    total = run(arguments.count, arguments.seed)
    print(json.dumps({"benchmark": "knowledge_damage", "dimensions": DIMENSIONS, "results": total}))
    return 1 if total["wrong"] or total["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
