"""The import contracts of the house, read from the source and seen in fresh interpreters."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from appliance.version import VERSION

ROOT = Path(__file__).parent.parent
PACKAGES = ("appliance", "models", "tui")

# room → (level, why it stands there). A room imports rooms of lower levels only; siblings do not import
# each other. A room is a package under appliance/, or a module beside them; `models` and `tui` are one each.
LEVELS = {
    "models": (0, "packs and model files; usable without the appliance"),
    "appliance.errors": (0, "every room raises them"),
    "appliance.configuration": (0, "what is told of settings; the server writes it, the client reads it"),
    "appliance.records": (0, "every room passes them"),
    "appliance.launch": (0, "a worker's first frame; whoever starts or is started reads it"),
    "appliance.activity": (0, "what is under way; whoever hands work to a model notes it"),
    "appliance.admin": (1, "what operators are told; the server writes it, the client reads it"),
    "appliance.audit": (0, "what the audit log says; the server writes it, the client reads it"),
    "appliance.trace": (0, "whose trace a request belongs to; logs, audit and upstreams carry it"),
    "appliance.address": (1, "where a home's server is; the server tells it, the client reads it"),
    "appliance.memory": (0, "what the machine has free; no room's business"),
    "appliance.principal": (0, "who asks and what they may; every room passes it on"),
    "appliance.paths": (0, "where files are; knows no settings, for it finds them"),
    "appliance.version": (0, "one constant"),
    "appliance.language": (0, "pure text"),
    "appliance.config": (1, "settings; what they are used for is not its business"),
    "appliance.client": (2, "speaks HTTP with a server; must never need the server's rooms"),
    "appliance.workers": (1, "frames and processes; does not know what a request means"),
    "appliance.llm": (1, "generation; knows no process, no HTTP, no settings"),
    "appliance.encoders": (1, "embedding and rerank; as llm"),
    "appliance.store": (1, "SQLite and vectors; does not know what it keeps"),
    "appliance.installation": (1, "where the executable lies; knows no service manager"),
    "appliance.service_unit": (1, "the text of a systemd unit"),
    "appliance.packs": (2, "signed packs to their places in a home"),
    "appliance.lineup": (2, "which installed models are served, under which names"),
    "appliance.orders": (2, "settings and models to launch orders"),
    "appliance.engine_room": (2, "launch orders to engines; knows no process"),
    "appliance.preparation": (2, "the generator's preparing thread, behind workers' frames"),
    "appliance.generator": (3, "the generator process: llm behind workers' frames"),
    "appliance.encoder": (2, "the encoder process: encoders behind workers' frames"),
    "appliance.residency": (2, "which chat models are in memory; on workers, knows no settings"),
    "appliance.backup": (2, "a home in one file, and back; knows files and databases, no rows but uploads'"),
    "appliance.archive": (2, "what clients ask to have kept, on the store"),
    "appliance.knowledge": (2, "documents to passages, on the store"),
    "appliance.routing": (2, "which model answers; pure policy and upstreams"),
    "appliance.security": (2, "keys, roles, audit, egress"),
    "appliance.telemetry": (2, "figures of records"),
    "appliance.stock": (2, "model files on disk and the jobs with them; not what is served"),
    "appliance.tools": (2, "what the server runs for a model; knows no surface"),
    "appliance.figures": (3, "how the whole is doing, read off its parts"),
    "appliance.runtime": (4, "the composition root: everything below, put together"),
    "appliance.api": (5, "HTTP in front of the runtime"),
    "appliance.connection": (6, "one client's connection: uvicorn's, with limits"),
    "appliance.server": (7, "the gateway process: api, listening"),
    "appliance.doctor": (3, "looks at everything below, serves nothing"),
    "appliance.support": (7, "collects what a helper needs to see; asks the doctor and the client"),
    "appliance.selftest": (6, "tries everything, serves nothing"),
    "tui": (5, "a client like any other"),
    "appliance.cli": (8, "starts each of the above"),
    "appliance.__main__": (9, "the command line, or a worker"),
}

# A native library crashes and changes in one place.
NATIVE_LIBRARIES = {
    "llama_cpp": "appliance/llm/bindings.py",
    "llguidance": "appliance/llm/grammar.py",
    "onnxruntime": "appliance/encoders/session.py",
    "tokenizers": "appliance/encoders/tokenizer.py",
    "hnswlib": "appliance/store/vectors.py",
    "apsw": "appliance/store/database.py",
}

ENGINES = ("llama_cpp", "onnxruntime", "tokenizers", "hnswlib", "llguidance")


@cache
def sources() -> dict[str, tuple[Path, ast.Module]]:
    """Every module of ours by its name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT).with_suffix("")
            parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
            found[".".join(parts)] = (path, ast.parse(path.read_text("utf-8")))
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The full names that `module` imports, at its top or inside a function."""
    path, tree = sources()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(names)


def room(name: str) -> str:
    """The room that a module, or a name imported from one, belongs to."""
    parts = name.split(".")
    return parts[0] if parts[0] in ("models", "tui") else ".".join(parts[:2])


def our_imports() -> Iterator[tuple[str, str]]:
    """Every pair of a module and a name of ours that it imports."""
    for module in sources():
        for name in imports(module):
            if name.split(".")[0] in PACKAGES and name != "appliance":
                yield module, name


def test_every_room_has_a_level() -> None:
    rooms = {room(module) for module in sources() if module not in ("appliance", "tui")}
    assert rooms <= set(LEVELS), f"without a level and a reason: {sorted(rooms - set(LEVELS))}"


def test_imports_go_down_only_and_siblings_do_not_import_each_other() -> None:
    wrong = [
        f"{module} (level {LEVELS[room(module)][0]}) imports {name} (level {LEVELS[room(name)][0]})"
        for module, name in our_imports()
        if module != "appliance" and room(module) != room(name)
        if LEVELS[room(module)][0] <= LEVELS[room(name)][0]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = sources()

    def targets(module: str) -> set[str]:
        named = {name if name in modules else name.rpartition(".")[0] for name in imports(module)}
        return (named & set(modules)) - {module}

    settled: set[str] = set()

    def follow(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        if module not in settled:
            for target in sorted(targets(module)):
                follow(target, (*trail, module))
            settled.add(module)

    for module in modules:
        follow(module, ())


@pytest.mark.parametrize(("library", "file"), NATIVE_LIBRARIES.items())
def test_a_native_library_is_imported_in_one_file(library: str, file: str) -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for module, (path, _) in sources().items()
        if any(name.split(".")[0] == library for name in imports(module))
    }
    assert importers <= {file}


def test_wire_schemas_stay_in_the_api() -> None:
    wire = ("appliance.api.schemas", "appliance.api.replies")
    outside = [
        module
        for module, name in our_imports()
        if name.startswith(wire) and not module.startswith("appliance.api.")
    ]
    assert not outside


def test_the_terminal_ui_knows_the_client_only() -> None:
    allowed = (
        "appliance.client",
        "appliance.admin",
        "appliance.audit",
        "appliance.configuration",
        "appliance.principal",
        "appliance.records",
        "appliance.errors",
        "tui",
    )
    assert not [
        (module, name)
        for module, name in our_imports()
        if room(module) == "tui" and not name.startswith(allowed)
    ]


def test_workers_know_neither_settings_nor_the_web() -> None:
    forbidden = ("appliance.config", "appliance.api", "appliance.runtime", "models")
    rooms = {"appliance.llm", "appliance.encoders", "appliance.generator", "appliance.encoder"}
    inner = [(module, name) for module, name in our_imports() if room(module) in rooms]
    assert not [pair for pair in inner if pair[1].startswith(forbidden)]


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages in a fresh interpreter that has imported `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def modules_of(package: str) -> list[str]:
    return [module for module in sources() if module == package or module.startswith(f"{package}.")]


def test_talking_to_a_server_loads_no_engine_and_no_server() -> None:
    loaded = loaded_by("appliance.cli.chat", *modules_of("tui"))
    assert not loaded & {*ENGINES, "starlette", "uvicorn", "apsw"}


def test_the_gateway_loads_no_engine_and_no_terminal_ui() -> None:
    loaded = loaded_by("appliance.cli.serve", "appliance.server", "appliance.runtime")
    assert "starlette" in loaded, "or this test looks at the wrong modules"
    assert not loaded & {"llama_cpp", "onnxruntime", "llguidance", "textual", "tui"}


def test_the_gateway_starts_without_cryptography() -> None:
    """Only issuers, client certificates and signatures need it, and it is slow to load."""
    assert not loaded_by("appliance.cli.serve", "appliance.api.app") & {"cryptography", "jwt"}


def test_a_worker_loads_its_own_engine_and_no_web() -> None:
    generator, encoder = loaded_by("appliance.generator"), loaded_by("appliance.encoder")
    assert "llama_cpp" in generator
    assert "onnxruntime" in encoder
    assert not generator & {"onnxruntime", "starlette", "uvicorn", "click", "textual", "httpx"}
    assert not encoder & {"llama_cpp", "starlette", "uvicorn", "click", "textual", "httpx"}


def test_help_loads_almost_nothing() -> None:
    loaded = loaded_by("appliance.cli.main")
    assert not loaded & {*ENGINES, "starlette", "uvicorn", "httpx", "rich", "textual", "numpy"}


def test_the_version_is_pyprojects() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == VERSION
