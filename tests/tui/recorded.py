"""A server as it once answered, so that a screen always shows the same.

`recorded.json` maps a path to its answer; `python -m tests.tui.recorded URL` asks a real server for all paths
that it has again. What no server would show by itself, such as a model that loads, is added below.
"""

from __future__ import annotations

import copy
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from appliance.client.knowledge import KnowledgeClient
from tui.backend import Door

FILE = Path(__file__).with_name("recorded.json")
URL = "http://hearth.test:8080"
NOW = 1_790_000_000.0
ANSWER = (
    "Use `dpkg -L package` to list the files of an installed package [1].\n\n"
    "- `dpkg -S path` tells which package owns a file [2]\n"
    "- `apt-file` also knows packages that are not installed"
)
QUOTES = (
    ("packages.md", 0, "Packages", "The command `dpkg -L package` lists the files of an installed package."),
    ("manual.pdf", 12, "Finding owners", "To find the package that owns a file, ask `dpkg -S path`."),
)


class Recorded(httpx.BaseTransport):
    def __init__(self) -> None:
        self.answers = staged(json.loads(FILE.read_text("utf-8")))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path == "/v1/chat/completions":
            return httpx.Response(200, text=_stream(json.loads(request.read())), request=request)
        if path not in self.answers:
            error = {"message": f"nothing recorded for {path}", "code": "not_found", "param": None}
            return httpx.Response(404, json={"error": error}, request=request)
        return httpx.Response(200, json=self.answers[path], request=request)


def door(_key: str | None) -> Door:
    return partial(KnowledgeClient, URL, None, transport=Recorded())


def staged(recorded: dict[str, Any]) -> dict[str, Any]:
    """With the times held still, and with what is worth seeing."""
    answers = copy.deepcopy(recorded)
    status, models = answers["/admin/v1/status"], answers["/admin/v1/models"]
    status |= {
        "started_at": NOW - 93_784,
        "uptime": 93_784.0,
        "running": 3,
        "waiting": 1,
        "tokens_per_second": 74.2,
    }
    status["memory"] |= {
        "total": 16 << 30,
        "available": 9 << 30,
        "models": 10 << 30,
        "models_resident": 3 << 30,
    }
    status["advice"] = [
        {
            "severity": "warning",
            "subject": "qwen2.5-coder-0.5b-instruct",
            "message": "requests wait for room in memory for it",
            "advice": "raise generator.memory, unpin or unload another model, or lower generator.cells",
        }
    ]
    chat = next(model for model in models["data"] if model["role"] == "chat")
    chat |= {"last_used": NOW - 42, "running": 3, "is_pinned": True}
    loading = chat | {
        "name": "qwen2.5-coder-0.5b-instruct", "state": "loading", "progress": 0.42, "is_pinned": False,
        "last_used": None, "running": 0, "waiting": 1, "bytes_estimated": 1 << 30,
    }  # fmt: skip
    models["data"].insert(1, loading)
    models |= {"memory": 10 << 30, "memory_resident": 3 << 30}
    status["models"] = models["data"]
    status["speeds"] = [
        {
            "model": chat["name"],
            "tokens_per_second": 74.2,
            "answers": 12,
            "first_token_p50": 0.084,
            "first_token_p99": 0.31,
        }
    ]
    answers["/admin/v1/requests"] = {
        "data": [
            {
                "id": f"r{number}", "request": f"req-{number}", "kind": "chat", "model": chat["name"],
                "phase": phase, "started_at": NOW - seconds, "seconds": seconds, "prompt_tokens": prompt,
                "cached_tokens": 0,
                "tokens": tokens,
            }
            for number, (phase, seconds, prompt, tokens) in enumerate(
                [("running", 2.4, 812, 164), ("running", 1.1, 96, 61), ("queued", 0.4, 2048, 0)]
            )
        ]
    }  # fmt: skip
    return answers


def _stream(asked: dict[str, Any]) -> str:
    pieces = [ANSWER[start : start + 12] for start in range(0, len(ANSWER), 12)]
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    if "knowledge" in asked:
        deltas.append(
            {"annotations": [{"type": "file_citation", "file_citation": each} for each in _citations()]}
        )
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def _citations() -> list[dict[str, Any]]:
    return [
        {
            "number": number, "start_index": 0, "end_index": 3, "file_id": f"file-{number}", "filename": name,
            "page": page, "heading": heading, "begins": 120, "ends": 120 + len(quote), "quote": quote,
            "score": 0.87,
        }
        for number, (name, page, heading, quote) in enumerate(QUOTES, start=1)
    ]  # fmt: skip


def record(url: str) -> None:
    """Asks the server at `url` for every path of the file again."""
    with httpx.Client(base_url=url, trust_env=False) as http:
        answers = {
            path: http.get(path).raise_for_status().json() for path in json.loads(FILE.read_text("utf-8"))
        }
    FILE.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    record(sys.argv[1])
