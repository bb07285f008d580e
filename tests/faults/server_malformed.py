"""Malformed files and bodies, by seeded mutation: ONNX, packs, templates, settings, JSON, schemas, regexes.

    python -m tests.faults.server_malformed [--count 1000] [--seed N]

What parses files is called as it is; bodies go to a running server. Allowed is: taken as sound, or refused
with the typed error of that parser, in bounded time. Everything else is an escape: another exception, a 500,
a dead gateway, a parser that goes on for ever. GGUF has a script of its own (`gguf_mutations`). The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from appliance.config.layers import load
from appliance.errors import ConfigError, HearthError
from appliance.llm.template import ChatTemplate
from appliance.records import Message
from models.errors import ModelError
from models.onnx import read_onnx
from models.pack import parse_pack
from models.store import Store
from tests.models.conftest import _onnx
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

MODEL = "ada"
ROOT = Path(__file__).parents[2]
MOST_SECONDS = 15.0  # for any one; machines are busy
STATUSES = {200, 400, 404, 405, 408, 413, 429, 499, 503, 504}
PIECES = [
    *(b"", b"\0", b"\xff\xfe", b"\xc3", b"-1", b"1e999", b"99999999999999999999", b"NaN", b"null", b"true"),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"{{", b"}}", b"{%", b"%}", b"../", b"\xed\xa0\x80"),
    *(b"[" * 500, b'{"a":' * 300, b"A" * 5000, "𝒳\u202e".encode(), b"__class__", b"$ref", b"(a+)+$"),
]


@dataclass
class Tally:
    cases: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    escapes: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    gateway_deaths: int = 0
    worker_restarts: int = 0


def mutated(chance: random.Random, content: bytes) -> bytes:
    """One to four changes of any kind."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        to = min(to, at + chance.choice([1, 4, 30, 1000]))
        match chance.randrange(6):
            case 0:
                content = content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
            case 1:
                content = content[:at] + content[to:]
            case 2:
                content = content[:to] + content[at:to] * chance.randint(1, 20) + content[to:]
            case 3:
                content = content[:at] + chance.choice(PIECES) + content[at:]
            case 4:
                content = content[:at]
            case _:
                content = content[:at] + chance.choice(PIECES) + content[to:]
        content = content or b"x"
    return content


ODD: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, -1e308, 2**63, 2**64, -(2**70), "", "\0", "x" * 3000, "\ud83d\ude00"),
    *([], {}, [[]] * 50, {"a": {}}, [None], ["x"] * 300, {"$ref": "#"}, "NaN", "../../etc/passwd", "{{7*7}}"),
]


def mangled(chance: random.Random, value: Any) -> Any:
    """Still JSON: one leaf or branch is something odd, is missing, or is there under another name."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        changed = dict(value)
        match chance.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[key + chance.choice(["_", "s", "\0", ""])] = chance.choice(ODD)
            case _:
                changed[key] = mangled(chance, value[key])
        return changed
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], mangled(chance, value[at]), *value[at + chance.randrange(2) :]]
    return chance.choice(ODD)


class Parsers:
    """What reads files, each with the one error that it may raise."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.samples: dict[str, tuple[bytes, Callable[[bytes], Any], type[Exception]]] = {
            "onnx": (_onnx(), self._onnx, ModelError),
            "pack": ((ROOT / "models/starter/pack.toml").read_bytes(), self._pack, ModelError),
            "template": ((ROOT / "tests/llm/qwen2.5.jinja").read_bytes(), self._template, HearthError),
            "config": (CONFIG.encode(), self._config, ConfigError),
        }

    def _onnx(self, content: bytes) -> Any:
        path = self._directory / "model.onnx"
        path.write_bytes(content)
        return read_onnx(path)

    def _pack(self, content: bytes) -> Any:
        return parse_pack(content, "mutated")

    def _template(self, content: bytes) -> Any:
        template = ChatTemplate(
            content.decode("utf-8", "replace"), bos_text="<s>", eos_text="</s>", seconds=1
        )
        return template.render([Message(role="user", content="hi")], options={})

    def _config(self, content: bytes) -> Any:
        file = self._directory / "hearth.toml"
        file.write_bytes(content)
        try:
            return load(file, {})
        except ConfigError as error:
            self._check_words(error.message, content)
            raise

    def _check_words(self, message: str, content: bytes) -> None:
        """A refusal names the file, and the place: the key, or the line of what is no TOML at all."""
        try:
            keys = words_in(tomllib.loads(content.decode()))
        except (ValueError, RecursionError):
            keys = {"line", "TOML", "UTF-8", "deep"}
        if (
            "hearth.toml" not in message
            or len(message) > 2000
            or not any(key[:40] in message for key in keys)
        ):
            raise AssertionError(f"a refusal that does not say where: {message!r}")


def words_in(value: Any) -> set[str]:
    """All keys of a table, and of the tables in it."""
    if isinstance(value, dict):
        return set(value).union(*map(words_in, value.values()))
    return set().union(*map(words_in, value)) if isinstance(value, list) else set()


CONFIG = """
port = 9000
[generator]
slots = 8
pinned = ["a", "b"]
[audit]
when_full = "refuse"
days = 30
[[routing.platforms]]
name = "cloud"
api_base_url = "https://api.example.com/v1"
[[routing.platforms.models]]
name = "big"
price_in = 2.5
capabilities = ["tools"]
[routing.aliases]
"gpt-*" = ["big"]
"""
SCHEMA: Any = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]{1,8}$", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
        "of": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/more"}]},
    },
    "$defs": {"more": {"type": "object", "properties": {"x": {"const": 1}}}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 4,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "logit_bias": {"5": 1},
    },
    "/v1/completions": {"model": MODEL, "prompt": "hi", "max_tokens": 4, "stop": ["x"], "stream": True},
    "/v1/responses": {"model": MODEL, "input": "hi", "max_output_tokens": 16},
    "/v1/messages": {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]},
    "/api/generate": {"model": MODEL, "prompt": "hi", "options": {"num_predict": 3}},
    "/tokenize": {"content": "hi"},
    "/admin/v1/routing/explain": {"model": MODEL, "prompt": "x"},
}


def schema_body(chance: random.Random) -> bytes:
    """A chat with a mutated schema or regex, in a sound frame where that is still JSON."""
    if chance.random() < 0.3:
        pattern = mutated(chance, b"^[a-z]{2,5}(foo|bar)*\\d+$").decode("utf-8", "replace")
        return json.dumps({**BODIES["/v1/chat/completions"], "tools": None, "regex": pattern}).encode()
    frame = {**BODIES["/v1/chat/completions"], "tools": None}
    schema = SCHEMA
    for _ in range(chance.randint(1, 3)):
        schema = mangled(chance, schema)
    frame["response_format"] = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    return json.dumps(frame).encode()


def parse_all(parsers: Parsers, count: int, chance: random.Random, tally: Tally) -> None:
    for name, (sample, parse, allowed) in parsers.samples.items():
        refused = taken = 0
        slowest = 0.0
        for number in range(count):
            content = sample if number == 0 else mutated(chance, sample)
            begun = time.perf_counter()
            try:
                parse(content)
                taken += 1
            except allowed:
                refused += 1
            except BaseException as error:
                tally.escapes.append(f"{name}: {error!r}: {content[:200]!r}")
            slowest = max(slowest, time.perf_counter() - begun)
            if number == 0 and not taken:
                tally.escapes.append(f"{name}: the sound sample is refused")
        tally.cases += count
        tally.refused[name], tally.taken[name], tally.slowest[name] = refused, taken, slowest


def ask_all(server: Served, count: int, chance: random.Random, tally: Tally) -> None:
    statuses: Counter[str] = Counter()
    slowest = {"json": 0.0, "schema": 0.0}
    for number in range(count):
        kind = "schema" if number % 3 == 0 else "json"
        path = chance.choice(list(BODIES))
        if chance.random() < 0.6:
            body = json.dumps(mangled(chance, BODIES[path])).encode()
        else:
            body = mutated(chance, json.dumps(BODIES[path]).encode())
        if kind == "schema":
            path, body = "/v1/chat/completions", schema_body(chance)
        begun = time.perf_counter()
        try:
            answer = server.http.post(
                path, content=body, headers={"content-type": "application/json"}, timeout=60
            )
        except httpx.TransportError as error:
            tally.escapes.append(f"{kind} {path}: {error!r}: {body[:300]!r}")
            if server.process.poll() is not None:
                tally.gateway_deaths += 1
                return
            continue
        took = time.perf_counter() - begun
        slowest[kind] = max(slowest[kind], took)
        statuses[str(answer.status_code)] += 1
        if answer.status_code not in STATUSES or took > MOST_SECONDS:
            tally.escapes.append(f"{kind} {path} {answer.status_code} {took:.1f} s: {body[:300]!r}")
    tally.cases += count
    tally.slowest |= slowest
    tally.statuses = dict(statuses)
    workers = server.http.get("/admin/v1/status").json()["workers"]
    tally.worker_restarts = sum(worker["restarts"] for worker in workers)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance, tally = random.Random(given.seed), Tally()
    with tempfile.TemporaryDirectory() as name:
        parse_all(Parsers(Path(name)), given.count, chance, tally)
        home = Path(name) / "home"
        install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
        server = Served(home, (MODEL,), ("knowledge.enabled=false",))
        try:
            server.wait_ready()
            ask_all(server, given.count, chance, tally)
            server.stop()
        finally:
            server.end()
    tally.escapes = tally.escapes[:20]
    print(json.dumps(asdict(tally)))
    return 1 if tally.escapes or tally.gateway_deaths else 0


if __name__ == "__main__":
    raise SystemExit(main())
