"""The full runs of the fault scripts of knowledge bases: `kill -9` and damaged index files.

    python -m tests.bench.knowledge_faults [--kills 1000] [--damaged 500] [--seed N]

What each run does and checks is told in tests/faults. Returns 1 when anything was lost, wrong or crashed. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from tests.faults import knowledge_damage, knowledge_kills


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="faults of knowledge bases, in full")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--damaged", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args(argv)
    damage = knowledge_damage.run(arguments.damaged, arguments.seed)
    print(f"damaged index files: {damage}", flush=True)
    kills = knowledge_kills.run(arguments.kills, arguments.seed, progress=True)
    figures = {"seed": arguments.seed, "damage": damage, "kills": vars(kills)}
    print(json.dumps({"benchmark": "knowledge_faults", "results": figures}))
    is_wrong = damage["wrong"] or damage["crashes"] or kills.lost or kills.mismatches or kills.problems
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
