"""Generation against llama-server, llama-bench and llama-batched-bench of the same llama.cpp.

Run from the repository's root:

    make bench BENCH_ARGS=generation
    python -m tests.bench.generation [--models NAME …] [--rows NAME …] [--rounds 3] [--threads N]
        [--set generator.KEY=VALUE …] [--peer=-OPTION …] [--json FILE]

The first run compiles the peers (about 10 minutes). Both servers run at the same time and are asked in turn,
by a client in a process of its own: greedy, fixed lengths, the same prompts. Figures are medians over the
rounds; only ratios of one run mean anything on another machine. The last line is JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from models.store import Store
from tests.bench.generation import own_rows, peer, rows
from tests.bench.generation.figures import Figure, table
from tests.bench.generation.rows import Bench
from tests.serving import CHAT, missing_models, store_directory

MODELS = (CHAT, "qwen2.5-coder-0.5b-instruct")
ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "one": rows.one_stream,
    "eight": functools.partial(rows.many_streams, streams=8),
    "thirty-two": functools.partial(rows.many_streams, streams=32),
    "prefill": rows.prefill,
    "shared": rows.shared_prompt,
    "long": rows.long_prompt,
    "prefix": own_rows.prefix_cache,
    "drafting": own_rows.drafting,
    "constrained": own_rows.constrained,
    "settings": own_rows.settings,
}


def weights(model: str) -> Path:
    return Store(store_directory()).extent(model, "model.gguf").path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generation")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--set", nargs="+", default=[], help="settings for Hearth, such as generator.draft=false"
    )
    parser.add_argument(
        "--peer", action="append", default=[], help="options for llama-server, such as --peer=-kvu"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args(argv)
    if missing := missing_models(given.models):
        print(f"not installed: {', '.join(missing)}; get them with: hearth models pull NAME", file=sys.stderr)
        return 1
    peer.ensure_built()
    figures: list[Figure] = []
    for model in given.models:
        bench = Bench(model, weights(model), given.threads, given.rounds, tuple(given.set), tuple(given.peer))
        for name in given.rows:
            begun = time.monotonic()
            for figure in ROWS[name](bench):
                figures.append(figure)
                print("  ".join(figure.cells()), flush=True)
            print(f"  ({model}, {name}: {time.monotonic() - begun:.0f} s)", flush=True)
    print(table(figures))
    text = json.dumps({"benchmark": "generation", "results": [figure.record() for figure in figures]})
    if given.json:
        given.json.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
