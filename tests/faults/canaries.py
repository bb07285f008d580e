"""Secrets in everything that a client sends, debug logging on: none of them is in anything the server writes.

    python -m tests.faults.canaries

A canary of its own goes into every place of every route: path, query, headers, credentials, body values and
names, file names and contents. Afterwards the server's log, its audit log, its metrics, its admin API and its
support bundle are searched. Looked for are also the secrets that the server was given: keys, a platform's
key, a token's secret. What a client has asked to have kept is in the stores, of course (`kept`: so many were
found there, as they must be), and nowhere else. The last line is JSON.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import jwt
from msgspec import Struct
from msgspec.json import encode

from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.operation import Operation
from appliance.api.routes import OPERATIONS
from models.store import Store
from tests.commands import run_hearth
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

MODEL = "ada"
PLATFORM_SECRET = "CANARYplatformCANARY" * 2
TOKEN_SECRET = "CANARYtokenCANARY" * 3
KEPT = ("knowledge", "archive", "models", "cache", "backups")  # where what clients keep lies
SKIPPED = re.compile(r"/(load|unload|rollback|reload|shutdown)$")  # they change the server, and take no text

CONFIG = """
log_level = "debug"

[routing]
mode = "hybrid"

[[routing.platforms]]
name = "cloud"
api_base_url = "http://127.0.0.1:9/v1"
key_file = "{key}"
allow_plain_key = true
health_seconds = 0

[[routing.platforms.models]]
name = "cloud-model"

[[access.issuers]]
issuer = "https://id.example"
audience = "hearth"
algorithm = "HS256"
key_file = "{secret}"
role = "user"
"""


class Found(Struct, kw_only=True):
    requests: int
    canaries: int
    places_searched: int
    bytes_searched: int
    kept: int
    hits: list[str]


class _Canaries:
    """Makes secrets, each of which tells where it was put."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def new(self, place: str) -> str:
        canary = f"cnry{len(self.made):05d}x7Qz"
        self.made[canary] = place
        return canary


def _body(kind: Any, canaries: _Canaries, where: str) -> dict[str, Any]:
    """A body of the operation's struct: text where it takes text, and a name that it does not have."""
    fields = {name: canaries.new(f"{where} body.{name}") for name in getattr(kind, "__struct_fields__", ())}
    body: dict[str, Any] = dict(fields)
    if "model" in body:
        body["model"] = MODEL
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": fields["messages"]}]
    return body


def _ask(client: httpx.Client, operation: Operation, canaries: _Canaries, keys: list[str]) -> int:
    """Several requests of one operation: a whole body, each text alone, a broken body, odd headers."""
    where = f"{operation.method} {operation.path}"

    def path() -> str:
        return re.sub(r"\{\w+\}", lambda _: canaries.new(f"{where} path"), operation.path)

    asked = 0
    for key in keys:
        headers = {
            "authorization": f"Bearer {key}",
            "x-canary": canaries.new(f"{where} header"),
            "user-agent": canaries.new(f"{where} user-agent"),
            "cookie": canaries.new(f"{where} cookie"),
            "referer": f"http://localhost/{canaries.new(f'{where} referer')}",
            "openai-organization": canaries.new(f"{where} organization"),
        }
        query = {canaries.new(f"{where} query name"): canaries.new(f"{where} query")}
        bodies: list[dict[str, Any]] = [{}]
        if operation.request is not None:
            whole = _body(operation.request, canaries, where)
            known = {name: whole[name] for name in ("model", "messages", "input", "prompt") if name in whole}
            bodies = [
                {"json": whole},
                {"json": known},
                {"json": {canaries.new(f"{where} name"): canaries.new(f"{where} value")}},
                {"content": f'{{"broken": "{canaries.new(f"{where} broken body")}"'.encode()},
                {
                    "files": {"file": (canaries.new(f"{where} file name"), io.BytesIO(b"x"))},
                    "data": {"purpose": canaries.new(f"{where} form")},
                },
            ]
        for body in bodies:
            try:
                answer = client.request(operation.method, path(), params=query, headers=headers, **body)
                answer.read()
            except httpx.TimeoutException:
                continue  # one that follows something for ever
            asked += 1
    return asked


def _keep(client: httpx.Client, key: str, canaries: _Canaries) -> None:
    """What is right and is kept, with canaries in it."""

    def new(place: str) -> str:
        return canaries.new(f"kept {place}")

    said = [{"type": "message", "role": "user", "content": new("turn")}]
    chat = [{"role": "system", "content": new("system")}, {"role": "user", "content": new("message")}]
    headers = {"authorization": f"Bearer {key}"}
    for path, body in (
        ("/v1/conversations", {"metadata": {new("metadata name"): new("metadata")}, "items": said}),
        ("/v1/chat/completions", {"model": MODEL, "messages": chat, "store": True, "max_tokens": 4}),
        ("/v1/responses", {"model": MODEL, "input": new("input"), "max_output_tokens": 16}),
        ("/v1/completions", {"model": MODEL, "prompt": new("prompt"), "max_tokens": 4, "user": new("user")}),
        ("/v1/responses", {"model": "cloud-model", "input": new("input online"), "max_output_tokens": 16}),
    ):
        client.post(path, json=body, headers=headers)
    files = {"file": (f"{new('file name')}.txt", io.BytesIO(new("content").encode()))}
    client.post("/v1/files", files=files, data={"purpose": "assistants"}, headers=headers)


def run(home: Path, credentials: int = 5) -> Found:
    """Against a server of its own in `home`, with so many of the credentials: good, weak and wrong ones."""
    home.mkdir(parents=True)
    install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
    key_file, secret_file = home.parent / "platform.key", home.parent / "token.key"
    key_file.write_text(PLATFORM_SECRET)
    secret_file.write_text(TOKEN_SECRET)
    (home / "hearth.toml").write_text(CONFIG.format(key=key_file, secret=secret_file))
    boss, user = _key(home, "boss", "admin"), _key(home, "user", "user")
    served = Served(home, (MODEL,), ("config_api=true",))
    canaries = _Canaries()
    secrets = {PLATFORM_SECRET: "the platform's key", TOKEN_SECRET: "the issuer's secret"}
    try:
        served.wait_ready()
        said = {"iss": "https://id.example", "aud": "hearth", "sub": "ada", "exp": 4_000_000_000}
        tokens = [
            jwt.encode({**said, "exp": int(time.time()) + 3600}, TOKEN_SECRET, "HS256"),
            jwt.encode(said, "x" * 32, "HS256"),
        ]
        keys = [boss, user, *tokens, f"hearth_wrongwrong_{canaries.new('a wrong key')}"]
        secrets |= dict.fromkeys(keys[:4], "a credential")
        asked = 0
        with httpx.Client(base_url=served.url, timeout=3, trust_env=False) as client:
            _keep(client, user, canaries)
            for operation in (*OPERATIONS, DOCUMENT_OPERATION):
                if not SKIPPED.search(operation.path):
                    asked += _ask(client, operation, canaries, keys[:credentials])
        outputs = _outputs(home, served, boss)
    finally:
        served.end()
    outputs["log"] = served.log.encode()
    assert b"DEBUG" in outputs["log"]
    stored = b"".join(path.read_bytes() for path in _files(home) if path.relative_to(home).parts[0] in KEPT)
    needles = {**canaries.made, **secrets}
    hits = [
        f"{place} holds {needles[needle]}"
        for place, content in outputs.items()
        for needle in needles
        if needle.encode() in content
    ]
    return Found(
        requests=asked,
        canaries=len(needles),
        places_searched=len(outputs),
        bytes_searched=sum(map(len, outputs.values())),
        kept=sum(canary.encode() in stored for canary in canaries.made),
        hits=hits,
    )


def _key(home: Path, name: str, role: str) -> str:
    """Made before the server starts: with an issuer named, nobody comes in without a credential."""
    done = run_hearth("keys", "create", name, "--role", role, "--quiet", home=home, share_models=False)
    return done.stdout.strip()


def _files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]


def _outputs(home: Path, served: Served, boss: str) -> dict[str, bytes]:
    """Everything that the server has written or tells operators, but what clients have asked to keep."""
    outputs = {
        str(path.relative_to(home)): path.read_bytes()
        for path in _files(home)
        if path.relative_to(home).parts[0] not in KEPT
    }
    headers = {"authorization": f"Bearer {boss}"}
    for path in (
        "/metrics",
        "/admin/v1/status",
        "/admin/v1/config",
        "/admin/v1/routing",
        "/admin/v1/requests",
    ):
        outputs[path] = httpx.get(served.url + path, headers=headers, trust_env=False, timeout=30).content
    bundle = home.parent / "support.zip"
    run_hearth("support-bundle", str(bundle), "--key", boss, home=home, url=served.url, share_models=False)
    with zipfile.ZipFile(bundle) as archive:
        return outputs | {f"bundle/{name}": archive.read(name) for name in archive.namelist()}


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        found = run(Path(directory) / "home")
    for hit in found.hits[:20]:
        print(hit)
    print(json.dumps(json.loads(encode(found))))
    return 1 if found.hits else 0


if __name__ == "__main__":
    sys.exit(main())
