"""How an upstream call can fail, as routing tells failures apart. Never shown to a client as it stands.

| kind | what happened |
|---|---|
| connect | no connection: refused, unreachable, not resolved, TLS |
| timeout | nothing came within the platform's first-byte limit |
| stall | the answer fell silent |
| cut | the connection or the stream ended before the answer did |
| garbage | what came is not HTTP, not SSE, not JSON, or not the API's shape |
| empty | a 200 whose answer has nothing in it |
| server_error | a 5xx, or an error event in the stream |
| rate_limited | 429, with or without Retry-After |
| over_quota | 402, or 429 for an account that has run dry |
| rejected_key | 401 or 403 |
| refused | another 4xx, or a redirect, which is never followed |
| too_large | more than the limits of an answer |
| busy | our own queue for the instance is full, or the wait was too long |
| over_budget | a budget of ours has too little left for this call, which was not made |
| deadline | the request's own time is up |
| local | a local model failed; `error` is its typed error |
"""

from __future__ import annotations

from typing import Literal

from appliance.errors import HearthError

FailureKind = Literal[
    "connect",
    "timeout",
    "stall",
    "cut",
    "garbage",
    "empty",
    "server_error",
    "rate_limited",
    "over_quota",
    "rejected_key",
    "refused",
    "too_large",
    "busy",
    "over_budget",
    "deadline",
    "local",
]

# Worth one more try on the same model: likely gone in a moment, and no time was lost in waiting.
_TRANSIENT = frozenset(["connect", "cut", "garbage", "empty", "server_error"])
_BLAMELESS = frozenset(["busy", "over_budget", "deadline", "refused", "rate_limited", "local"])


class UpstreamFailure(Exception):
    """`detail` is for logs and attempts; it has no key in it, and at most a line of the upstream's words."""

    def __init__(
        self,
        kind: FailureKind,
        detail: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        error: HearthError | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.error = error

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def is_transient(self) -> bool:
        return self.kind in _TRANSIENT

    @property
    def is_blamed(self) -> bool:
        """Whether the instance's breaker counts it."""
        return self.kind not in _BLAMELESS
