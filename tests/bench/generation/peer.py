"""The peers: llama-server, llama-bench and llama-batched-bench of the very llama.cpp that we run on.

They are compiled from the llama.cpp inside the locked source release of llama-cpp-python, with the
instruction set of this processor like our own build (build/setup_needs.py), and kept in the cache
directory. Knows nothing of what is measured.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from appliance import paths

PACKAGE = "llama-cpp-python"
ROOT = Path(__file__).parents[3]
PROGRAMS = ("llama-server", "llama-bench", "llama-batched-bench")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
BUILD_SECONDS = 3600
BENCH_SECONDS = 600


def directory() -> Path:
    """Where the peers' source and programs are kept: a cache, outside the tree."""
    return paths.cache() / f"llama.cpp-{importlib.metadata.version(PACKAGE)}"


def program(name: str) -> Path:
    return directory() / "build" / "bin" / name


def ensure_built() -> None:
    """Fetches the source with the package client and compiles it, about 10 minutes on 2 cores."""
    if all(program(name).is_file() for name in PROGRAMS):
        return
    source, build = directory() / "source", directory() / "build"
    if not (source / "CMakeLists.txt").is_file():
        _fetch(source)
    print(f"compiling {', '.join(PROGRAMS)} once, about 10 minutes on 2 cores …", flush=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in (
        ["cmake", "-G", "Ninja", "-S", source, "-B", build, *OPTIONS],
        ["cmake", "--build", build, "--target", *PROGRAMS],
    ):
        subprocess.run(command, env=environment, timeout=BUILD_SECONDS, check=True, stdout=subprocess.DEVNULL)


def _fetch(source: Path) -> None:
    """Puts the llama.cpp of the locked source release at `source`."""
    sys.path.insert(0, str(ROOT / "build"))
    from requirements_lock import read_lock, render

    pins = {pin.name: pin for pin in read_lock((ROOT / "requirements.lock").read_text())}
    source.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        scratch = Path(name)
        (scratch / "pin.txt").write_text(render([pins[PACKAGE]]))
        command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "--no-binary"]
        command += [":all:", "--no-build-isolation", "-q", "-d", scratch, "-r", scratch / "pin.txt"]
        subprocess.run(command, timeout=BUILD_SECONDS, check=True)
        with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
            archive.extractall(scratch / "release", filter="data")
        shutil.move(next(scratch.glob("release/*/vendor/llama.cpp")), source)


def bench(weights: Path, threads: int, *, prompt: int = 0, tokens: int = 0) -> float:
    """llama-bench's tokens per second: of a prompt of `prompt` tokens, or of `tokens` one by one."""
    command = [
        program("llama-bench"),
        "-m",
        weights,
        "-t",
        str(threads),
        "-p",
        str(prompt),
        "-n",
        str(tokens),
    ]
    command += ["-r", "3", "-o", "json"]
    done = subprocess.run(command, timeout=BENCH_SECONDS, check=True, capture_output=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def batched_bench(weights: Path, threads: int, *, prompt: int, tokens: int, streams: int) -> dict[str, Any]:
    """llama-batched-bench's own record of `streams` prompts of `prompt` tokens and `tokens` for each.

    With a cache of its own for each stream, which is the faster of its two ways.
    """
    command = [program("llama-batched-bench"), "-m", weights, "-t", str(threads), "-tb", str(threads)]
    command += ["-c", str(streams * (prompt + tokens)), "-npp", str(prompt), "-ntg", str(tokens)]
    command += ["-npl", str(streams), "-b", "2048", "-ub", "512", "--output-format", "jsonl"]
    done = subprocess.run(command, timeout=BENCH_SECONDS, check=True, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    record: dict[str, Any] = json.loads(lines[-1])
    return record
