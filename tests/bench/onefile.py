"""The executable as its user has it: size, start, memory, disk, and its speed against a run from source.

Run from the repository's root, after `make binary`:

    python -m tests.bench.onefile [--starts 5] [--rounds 3]

A start is timed from the launch to the first 200 of /readyz, a first one in a home that does not exist yet.
Memory is the proportional set size (PSS) of gateway, encoder and generator, idle and ready, without what they
map of the executable, which are the generator's weights. onnxruntime keeps those of the encoder's model as
float32 in memory of its own: what they are by the model's own tensors is told apart. Speed is the median of
rounds that alternate between the executable and the source run: greedy answers of fixed length by the same
model, alone and eight at a time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from models.embedded import Embedded, open_embedded
from models.protobuf import Field, WireReader
from models.region import Region
from tests.serving import ANNOUNCEMENT, CHAT, EMBED, own_environment, store_directory

ROOT = Path(__file__).parents[2]
EXECUTABLE = ROOT / "dist" / "hearth"
GRAPH, TENSOR, DIMS = 7, 5, 1  # fields of ModelProto, GraphProto and TensorProto
UNPACKED_AT = 24  # in the program archive's header
TOKENS, STREAMS = 96, 8
PROMPT = "Write a long story about a lighthouse, a storm and a ship."


class Running:
    """A server of its own in `home`; `ready_seconds` from the launch to /readyz."""

    def __init__(self, command: Sequence[str], home: Path) -> None:
        home.mkdir(exist_ok=True)
        flags = ("pack=tiny", "pull=never")
        words = [*command, "serve", "--port", "0", *(word for flag in flags for word in ("--set", flag))]
        began = time.monotonic()
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=own_environment(home), stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = next(line for line in self.process.stderr if line.startswith(ANNOUNCEMENT))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        url = line.removeprefix(ANNOUNCEMENT).split()[0].removesuffix("/v1")
        self.http = httpx.Client(base_url=url, timeout=120, trust_env=False)
        while self.http.get("/readyz").status_code != 200:
            time.sleep(0.005)
        self.ready_seconds = time.monotonic() - began

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def memory(self) -> dict[str, float]:
        """MB of PSS by process, without what is mapped of the executable."""
        found = {}
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            words = process.cmdline()
            role = words[words.index("worker") + 1] if "worker" in words else "gateway"
            found[role] = found.get(role, 0.0) + _pss_without(process.pid, EXECUTABLE) / 1e6
        return found

    def processor_seconds(self) -> float:
        """What the generator has used of all processors so far: holds on a busy machine too."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if "generator" in process.cmdline():
                times = process.cpu_times()
                return times.user + times.system
        raise AssertionError("there is no generator")

    def speed(self, streams: int) -> float:
        """Tokens a second of all streams together."""
        body = {
            "model": CHAT, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS,
            "temperature": 0, "ignore_eos": True,
        }  # fmt: skip
        done: list[int] = []

        def ask() -> None:
            answer = self.http.post("/v1/chat/completions", json=body).raise_for_status().json()
            done.append(answer["usage"]["completion_tokens"])

        threads = [threading.Thread(target=ask) for _ in range(streams)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.monotonic() - began)


def _pss_without(pid: int, path: Path) -> int:
    total, counts = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            counts = words[-1] != str(path)
        elif words[0] == "Pss:" and counts:
            total += int(words[1]) * 1024
    return total


def starts(directory: Path, count: int) -> dict[str, Any]:
    """Seconds of first and of later starts, and what the last first one left on disk."""
    first, later = [], []
    memory: list[dict[str, float]] = []
    for number in range(count):
        home = directory / f"home-{number}"
        with Running([str(EXECUTABLE)], home) as running:
            first.append(running.ready_seconds)
        with Running([str(EXECUTABLE)], home) as running:
            later.append(running.ready_seconds)
            time.sleep(1)
            memory.append(running.memory())
        left = _bytes_below(home)
        if number < count - 1:
            shutil.rmtree(home)
    middle = sorted(memory, key=lambda found: sum(found.values()))[len(memory) // 2]
    return {
        "first_start_s": round(statistics.median(first), 2),
        "later_start_s": round(statistics.median(later), 2),
        "pss_mb": round(sum(middle.values()), 1),
        "pss_mb_by_process": {role: round(mb, 1) for role, mb in sorted(middle.items())},
        "disk_bytes": left,
    }


def encoder_weights(embedded: Embedded) -> int:
    """Bytes of the embedding model's weights as float32, which its int8 tensors become when it is loaded."""
    extent = embedded.extent(EMBED, "model.onnx")
    with Region(extent.path, extent.start, extent.length) as region:
        reader = WireReader(region)
        graphs = [field for field in reader.fields(0, reader.length) if field.number == GRAPH]
        tensors = [field for field in reader.fields(graphs[0].begin, graphs[0].end) if field.number == TENSOR]
        return sum(4 * _elements(reader, tensor) for tensor in tensors)


def _elements(reader: WireReader, tensor: Field) -> int:
    fields = reader.fields(tensor.begin, tensor.end)
    return math.prod(length for each in fields if each.number == DIMS for length in reader.integers(each, 16))


def _bytes_below(directory: Path) -> int:
    return sum(
        path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink()
    )


def speeds(directory: Path, rounds: int) -> dict[str, Any]:
    source_home = directory / "source"
    source_home.mkdir()
    (source_home / "models").symlink_to(store_directory(), target_is_directory=True)
    source = [sys.executable, "-P", "-m", "appliance"]
    found: dict[str, list[float]] = {}
    work: dict[str, list[float]] = {}
    with Running([str(EXECUTABLE)], directory / "frozen") as frozen, Running(source, source_home) as plain:
        for streams in (1, STREAMS):
            for running in (frozen, plain):
                running.speed(streams)
            for _ in range(rounds):
                for name, running in (("frozen", frozen), ("source", plain)):
                    before = running.processor_seconds()
                    found.setdefault(f"{name}_{streams}", []).append(running.speed(streams))
                    used = running.processor_seconds() - before
                    work.setdefault(f"{name}_{streams}", []).append(1000 * used / (TOKENS * streams))
    medians = {name: statistics.median(each) for name, each in found.items()}
    figures = {f"tokens_per_s_{name}": round(value, 1) for name, value in medians.items()}
    figures |= {f"cpu_ms_per_token_{name}": round(statistics.median(each), 2) for name, each in work.items()}
    for streams in (1, STREAMS):
        figures[f"ratio_{streams}"] = round(medians[f"frozen_{streams}"] / medians[f"source_{streams}"], 3)
    return figures


def sizes(embedded: Embedded) -> dict[str, Any]:
    with Region(*embedded.program().parts) as region:
        unpacked = int.from_bytes(region.read(UNPACKED_AT, 8), "little")
    program = embedded.table.launcher.bytes + embedded.table.program.bytes
    return {"program_mb": round(program / 1e6, 1), "unpacked_bytes": unpacked}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not EXECUTABLE.exists():
        print("there is no dist/hearth; make it with `make binary`", file=sys.stderr)
        return 1
    embedded = open_embedded(EXECUTABLE)
    figures = sizes(embedded)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        if options.starts:
            figures |= starts(Path(directory), options.starts)
            weights = encoder_weights(embedded) / 1e6
            figures["encoder_weights_mb"] = round(weights, 1)
            figures["pss_without_weights_mb"] = round(figures["pss_mb"] - weights, 1)
            figures["disk_ratio"] = round(figures.pop("disk_bytes") / figures["unpacked_bytes"], 3)
        if options.rounds:
            figures |= speeds(Path(directory), options.rounds)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
