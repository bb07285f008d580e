"""A real server with scripted online services behind it, as the whole-server routing tests use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.serving import CHAT, Served
from tests.upstream.service import Service

PATIENCE = {
    "connect_seconds": 2.0,
    "first_byte_seconds": 0.5,
    "between_bytes_seconds": 0.3,
    "health_seconds": 0,
}
CAPABILITIES = ["tools", "schema", "completions"]
BREAKER = {"failures": 1000, "window_requests": 100_000, "open_seconds": 0.05, "retry_after_most": 0.001}


def platform(name: str, url: str, quality: int = 50, **fields: Any) -> dict[str, Any]:
    model = {
        "name": "big",
        "public_name": name,
        "quality": quality,
        "price_in": 1.0,
        "price_out": 2.0,
        "capabilities": CAPABILITIES,
        "concurrency": 64,
    } | fields.pop("model", {})
    return {"name": name, "api_base_url": url, "type": "vllm", "models": [model], **PATIENCE, **fields}


def write_settings(home: Path, *platforms: dict[str, Any], **routing: Any) -> None:
    """hearth.toml with the section `routing`; JSON's lists and texts are TOML too."""
    home.mkdir(parents=True, exist_ok=True)
    fields = {"mode": "hybrid", "breaker": BREAKER, "retry_jitter": 0.001, **routing}
    fields["platforms"] = list(platforms)
    lines = [f"{key} = {toml(value)}" for key, value in fields.items()]
    (home / "hearth.toml").write_text("\n".join(["[routing]", *lines, ""]), "utf-8")


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def serving(home: Path, *settings: str) -> Iterator[Served]:
    served = Served(home, (CHAT,), settings)
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@contextmanager
def services(*texts: str, **options: Any) -> Iterator[list[Service]]:
    started = [Service(text, **options) for text in texts]
    for service in started:
        service.__enter__()
    try:
        yield started
    finally:
        for service in started:
            service.__exit__()
