"""A batch as it is kept and shown, the lines of its input, and those of its output."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.api.schemas import Metadata

KIND = "batch"
MOST_LINES = 50_000
MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_ERRORS = 100
WINDOW_SECONDS = 24 * 3600
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
OPEN_STATES = ("validating", "in_progress", "finalizing", "cancelling")

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]


class OutputExpiry(Struct, forbid_unknown_fields=True, kw_only=True):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class CreateBatch(Struct, forbid_unknown_fields=True, kw_only=True):
    input_file_id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: Annotated[str, Meta(max_length=64)]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class LineError(Struct, kw_only=True):
    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Errors(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[LineError]


class Counts(Struct, kw_only=True):
    total: int = 0
    completed: int = 0
    failed: int = 0


class CachedDetails(Struct, kw_only=True):
    cached_tokens: int = 0


class ReasoningDetails(Struct, kw_only=True):
    reasoning_tokens: int = 0


class BatchUsage(Struct, kw_only=True):
    input_tokens: int = 0
    input_tokens_details: CachedDetails = msgspec.field(default_factory=CachedDetails)
    output_tokens: int = 0
    output_tokens_details: ReasoningDetails = msgspec.field(default_factory=ReasoningDetails)
    total_tokens: int = 0

    def add(self, usage: dict[str, Any]) -> None:
        """The usage of an answer, in chat's words or in those of responses."""
        given = usage.get("prompt_tokens", usage.get("input_tokens")) or 0
        made = usage.get("completion_tokens", usage.get("output_tokens")) or 0
        inner = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        outer = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        self.input_tokens += given
        self.output_tokens += made
        self.total_tokens += given + made
        self.input_tokens_details.cached_tokens += inner.get("cached_tokens") or 0
        self.output_tokens_details.reasoning_tokens += outer.get("reasoning_tokens") or 0


class Batch(Struct, kw_only=True):
    """Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    status: Status = "validating"
    model: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Errors | None = None
    created_at: int
    expires_at: int
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)
    usage: BatchUsage | None = None
    metadata: dict[str, str] | None = None
    output_seconds: int | None = None  # ours: how long the output files are kept


class BatchList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Line(Struct, forbid_unknown_fields=True, kw_only=True):
    """One request of the input file."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


def read_lines(lines: Iterable[bytes], endpoint: str) -> Iterator[tuple[int, Line | LineError]]:
    """Every line that is not empty, numbered from 1, as a request or as what is wrong with it."""
    seen: set[str] = set()
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            line = msgspec.json.decode(raw, type=Line)
            raw.decode("utf-8")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield number, LineError(code="invalid_json_line", message=str(error), line=number)
            continue
        problem = _problem(line, endpoint, seen)
        seen.add(line.custom_id)
        yield number, LineError(code=problem[0], message=problem[1], line=number) if problem else line


def _problem(line: Line, endpoint: str, seen: set[str]) -> tuple[str, str] | None:
    if line.url != endpoint:
        return "invalid_url", f"the url is {line.url[:80]!r}; this batch is for {endpoint}"
    if line.custom_id in seen:
        return "duplicate_custom_id", f"the custom_id {line.custom_id[:80]!r} is given twice"
    if line.body.get("stream"):
        return "invalid_request", "a batch's requests cannot stream"
    if line.body.get("background"):
        return "invalid_request", "a batch's requests are in the background already"
    return None


def output_line(custom_id: str, status: int, body: Any) -> dict[str, Any]:
    request = f"batch_req_{secrets.token_hex(12)}"
    return {
        "id": request,
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": request, "body": body},
        "error": None,
    }


def lost_line(custom_id: str, code: str, message: str) -> dict[str, Any]:
    """Of a request that was not answered at all."""
    return {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
