"""How every request of the parameter table is asked: a small one that is answered, and a place for a value.

Knows names and places, not what becomes of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import httpx

from appliance.api.parameter_table import Entry
from tests.serving import CHAT, EMBED, RERANK

MONTHS = "List the months of the year."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "The weather of a city", "parameters": SCHEMA}
TEXT = [{"type": "text", "text": MONTHS}]
SAID = [{"role": "user", "content": TEXT}]
COLD = {"num_predict": 6, "temperature": 0}
QUERY, DOCUMENTS = "How many people live in Berlin?", ["It has museums.", "It has 3.5 million people."]
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": MONTHS}]}

# One request of each path that is answered, as small as it can be.
BASES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": CHAT, "messages": SAID, "max_tokens": 6, "temperature": 0},
    "/v1/completions": {"model": CHAT, "prompt": MONTHS, "max_tokens": 6, "temperature": 0},
    "/v1/embeddings": {"model": EMBED, "input": "a cat"},
    "/v1/responses": {"model": CHAT, "input": [ITEM], "max_output_tokens": 6, "temperature": 0},
    "/v1/responses/input_tokens": {"model": CHAT, "input": [ITEM]},
    "/v1/responses/compact": {"model": CHAT, "input": [ITEM]},
    "/v1/conversations": {"items": [ITEM]},
    "/v1/messages": {"model": CHAT, "messages": SAID, "max_tokens": 6, "temperature": 0},
    "/v1/messages/count_tokens": {"model": CHAT, "messages": SAID},
    "/api/chat": {
        "model": CHAT,
        "messages": [{"role": "user", "content": MONTHS}],
        "stream": False,
        "options": COLD,
    },
    "/api/generate": {"model": CHAT, "prompt": MONTHS, "stream": False, "options": COLD},
    "/api/embed": {"model": EMBED, "input": "a cat"},
    "/api/embeddings": {"model": EMBED, "prompt": "a cat"},
    "/api/show": {"model": CHAT},
    "/v1/rerank": {"model": RERANK, "query": QUERY, "documents": DOCUMENTS},
    "/v2/rerank": {"model": RERANK, "query": QUERY, "documents": DOCUMENTS},
    "/rerank": {"query": QUERY, "texts": DOCUMENTS},
    "/v1/score": {"model": RERANK, "text_1": QUERY, "text_2": DOCUMENTS},
    "/tokenize": {"content": MONTHS},
    "/detokenize": {"tokens": [504, 3575]},
    "/apply-template": {"messages": SAID},
    "/v1/uploads": {"filename": "a.txt", "bytes": 5, "purpose": "assistants", "mime_type": "text/plain"},
    "/v1/vector_stores": {"name": "walked", "embedder": EMBED},
}
# What must be there before something can stand inside it.
SCAFFOLDS: Mapping[tuple[str, str], Any] = {
    ("/v1/chat/completions", "stream_options"): {},
    ("/v1/chat/completions", "response_format"): {"type": "text"},
    ("/v1/chat/completions", "tools"): [{"type": "function", "function": FUNCTION}],
    ("/v1/responses", "stream_options"): {},
    ("/v1/responses", "reasoning"): {},
    ("/v1/responses", "text"): {},
    ("/v1/responses", "tools"): [{"type": "function", **FUNCTION}],
    ("/v1/messages", "thinking"): {"type": "enabled"},
    ("/v1/messages", "tools"): [
        {"name": "get_weather", "description": "The weather of a city", "input_schema": SCHEMA}
    ],
}
SEARCHING = {"type": "file_search", "vector_store_ids": ["vs_nothing"], "ranking_options": {}}


class Asked:
    """A row of the table on the way to the server. `name`: as the server calls the parameter."""

    def __init__(self, path: str, parameter: str) -> None:
        self.path, self.name = path, parameter.replace("[]", "[0]")
        self.body: dict[str, Any] = copy.deepcopy(BASES[path])
        steps = [step for part in parameter.split(".") for step in _steps(part)]
        if (path, steps[0]) in SCAFFOLDS and len(steps) > 1:
            self.body[steps[0]] = copy.deepcopy(SCAFFOLDS[path, steps[0]])
        if steps[:1] == ["stream_options"] or steps == ["stream_options"]:
            self.body["stream"] = True
        if parameter.startswith("tools[].ranking_options."):
            self.body["tools"] = [copy.deepcopy(SEARCHING)]
        self._steps = steps

    def with_value(self, value: Any) -> Asked:
        place: Any = self.body
        for step in self._steps[:-1]:
            place = place[step]
        place[self._steps[-1]] = value
        return self

    def send(self, http: httpx.Client) -> httpx.Response:
        return http.post(self.path, json=self.body)


def _steps(part: str) -> list[Any]:
    return [part.removesuffix("[]"), 0] if part.endswith("[]") else [part]


def paths_of(entry: Entry) -> list[str]:
    """Nearly always one: a few rows are of two paths."""
    return entry.path.split(" and ")


def told_of(response: httpx.Response) -> tuple[str, str]:
    """The parameter that an error names, where its surface's errors name one, and its message."""
    error = response.json()["error"]
    if isinstance(error, str):
        return "", error
    return str(error.get("param") or ""), str(error["message"])
