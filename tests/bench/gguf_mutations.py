"""A thousand mutated model files in the worker of a running server; see tests/faults/gguf_mutations.py."""

from __future__ import annotations

import sys

from tests.faults.gguf_mutations import main

if __name__ == "__main__":
    sys.exit(main(["--count", "1000", *sys.argv[1:]]))
