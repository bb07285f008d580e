"""Looks at this machine and at this installation: what is here, what fits, what is wrong and what to do.

Collects findings; it prints nothing and changes nothing. What native libraries say of themselves is asked in
the worker's own process, so that a broken one cannot take the doctor down.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from appliance import memory, paths
from appliance.admin import Finding
from appliance.config.schema import Settings
from appliance.errors import HearthError
from appliance.orders import generator_order, mebibytes
from appliance.version import VERSION
from models.errors import ModelError
from models.library import Library
from models.pack import load_pack
from models.store import Installed

GIB = 1024**3
PROBE_SECONDS = 30
INSTRUCTION_SETS = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "amx_int8")
LIBRARIES = (
    "llama-cpp-python", "onnxruntime", "tokenizers", "hnswlib", "numpy", "apsw", "uvicorn", "starlette",
    "uvloop", "httptools", "httpx", "msgspec", "jinja2", "llguidance", "cryptography", "textual",
)  # fmt: skip


class EngineFacts(msgspec.Struct, frozen=True):
    """What the compute libraries say, asked in a process of their own."""

    devices: tuple[str, ...]
    variant: str
    system_info: str
    onnxruntime: str
    onnxruntime_telemetry: str


def examine(settings: Settings, library: Library, *, budget: int | None = None) -> Iterator[Finding]:
    """Every finding, section by section; `library` has the models to look at.

    `budget`: of a running server, the bytes that its chat models may take; it has its port already.
    """
    yield Finding("Hearth", "version", f"{VERSION}, {'one file' if paths.is_frozen() else 'from source'}")
    yield Finding("Hearth", "home", str(paths.home()))
    yield from _machine()
    yield from _engines()
    yield from _libraries()
    yield from _disk()
    yield from _models(settings, library, budget)
    if budget is None:
        yield from _port(settings)
    yield from _network(settings)


def _network(settings: Settings) -> Iterator[Finding]:
    if settings.routing.mode != "offline":
        yield Finding("Network", "mode", f"{settings.routing.mode}: the configured platforms may be asked")
    elif settings.tools.needs_sockets:
        yield Finding(
            "Network",
            "mode",
            "offline, but for TCP to this machine: tools.http or tools.servers name addresses",
            "warning",
            "the kernel refuses everything but TCP, and only the guard in Python keeps that on this machine; "
            "MCP servers with a command instead of a url leave the kernel's seal whole",
        )
    else:
        yield Finding("Network", "mode", "offline: new network sockets are refused")


def _machine() -> Iterator[Finding]:
    flags = _cpu_flags()
    present = [name for name in INSTRUCTION_SETS if name in flags]
    logical, physical = psutil.cpu_count() or 1, psutil.cpu_count(logical=False) or 1
    yield Finding("Machine", "system", f"{platform.platform()}, Python {platform.python_version()}")
    yield Finding("Machine", "processor", f"{_cpu_name()}, {physical} cores, {logical} threads")
    if "avx2" in flags:
        yield Finding("Machine", "instructions", ", ".join(present))
    else:
        yield Finding(
            "Machine",
            "instructions",
            ", ".join(present) or "none of those that speed up models",
            "warning",
            "without AVX2 answers come several times slower",
        )
    free = memory.available()
    text = f"{free / GIB:.1f} GiB free of {psutil.virtual_memory().total / GIB:.1f} GiB"
    if free < GIB:
        yield Finding("Machine", "memory", text, "warning", "close other programs, or use --pack tiny")
    else:
        yield Finding("Machine", "memory", text)


def _cpu_flags() -> set[str]:
    return set(_cpu_line("flags").split())


def _cpu_name() -> str:
    return _cpu_line("model name") or platform.machine()


def _cpu_line(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _engines() -> Iterator[Finding]:
    facts = ask_engines()
    if isinstance(facts, str):
        yield Finding("Engines", "compute", facts, "problem", "no model can run on this machine as it is")
        return
    for device in facts.devices:
        yield Finding("Engines", "ggml device", device)
    yield Finding("Engines", "ggml variant", facts.variant or "compiled for this processor alone")
    yield Finding("Engines", "ggml instructions", facts.system_info)
    yield Finding("Engines", "onnxruntime", facts.onnxruntime)
    level: Literal["ok", "problem"] = "ok" if facts.onnxruntime_telemetry == "off" else "problem"
    yield Finding("Engines", "telemetry", f"onnxruntime's is {facts.onnxruntime_telemetry}", level)


def ask_engines() -> EngineFacts | str:
    """The engines' facts, or a sentence about why they do not start here."""
    command = [*paths.self_command(), "worker", "probe", "0", str(os.getpid())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the engines do not start: {error}"
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        return f"the engines do not start (status {done.returncode}): {last[0]}"
    return msgspec.json.decode(done.stdout, type=EngineFacts)


def probe_engines() -> EngineFacts:
    """In a process of its own: load the native libraries and ask them."""
    from appliance.encoders import session
    from appliance.llm import bindings

    bindings.load_compute_backends()
    telemetry = "off" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "on"
    return EngineFacts(
        bindings.compute_devices(),
        bindings.cpu_variant(),
        bindings.system_info(),
        session.library_version(),
        telemetry,
    )


def _libraries() -> Iterator[Finding]:
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("Libraries", name, "is missing", "problem", "run `make setup` again")
    yield Finding("Libraries", "versions", ", ".join(versions))


def _disk() -> Iterator[Finding]:
    home = paths.home()
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / GIB:.1f} GiB free at {existing}"
    if not os.access(existing, os.W_OK):
        yield Finding("Disk", "home", f"{existing} cannot be written", "problem", "set HEARTH_HOME elsewhere")
    elif free < GIB:
        yield Finding("Disk", "space", text, "warning", "make room, or set HEARTH_HOME to a larger disk")
    else:
        yield Finding("Disk", "space", text)


def _models(settings: Settings, library: Library, budget: int | None) -> Iterator[Finding]:
    try:
        installed = library.list()
        missing = _missing(settings, library, installed)
    except ModelError as error:
        yield Finding("Models", "store", error.message, "problem", "run `hearth models pull`")
        return
    if missing and settings.models:
        text = f"{', '.join(missing)} is to be served, and not installed"
        yield Finding("Models", "models", text, "problem", "install it, or take it out of `models`")
    elif missing:
        yield Finding(
            "Models",
            f"pack {settings.pack}",
            f"lacks {', '.join(missing)}",
            "warning",
            "run `hearth models pull`",
        )
    for model in installed:
        yield _model(model, library, settings, budget)


def _missing(settings: Settings, library: Library, installed: list[Installed]) -> list[str]:
    """What is to be served and is not there: of the models that the settings name, else of the pack."""
    if settings.models:
        return sorted(set(settings.models) - {model.name for model in installed})
    if library.carries(settings.pack):
        return []
    return [model.name for model in load_pack(settings.pack).models if not library.store.has(model)]


def _model(model: Installed, library: Library, settings: Settings, budget: int | None) -> Finding:
    size = f"{model.manifest.role}, {model.manifest.bytes / 1e6:,.0f} MB"
    if model.manifest.role != "chat":
        return Finding("Models", model.name, size)
    most = budget or settings.generator.memory or memory.available()
    try:
        _, expected = generator_order(model, library, settings, most)
    except HearthError as error:
        return Finding("Models", model.name, f"{size}: {error.message}", "warning", "it cannot be served now")
    if expected.bytes > most:
        text = f"{size}, needs about {expected}; {mebibytes(most)} are there for chat models"
        return Finding("Models", model.name, text, "warning", "lower generator.cells, or use a smaller model")
    return Finding("Models", model.name, f"{size}, fits: needs about {expected}")


def _port(settings: Settings) -> Iterator[Finding]:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        taken = attempt.connect_ex((settings.host, settings.port)) == 0 if settings.port else False
    where = f"{settings.host}:{settings.port}"
    if taken:
        yield Finding("Network", where, "something listens there: Hearth itself, or another program")
    else:
        yield Finding("Network", where, "is free")
