"""What the client is told when no candidate is left, and which local errors leave room for another
candidate.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import (
    Cancelled,
    ContextLengthExceeded,
    Draining,
    HearthError,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from appliance.routing.failure import UpstreamFailure
from appliance.routing.request import Attempt


def nobody_answered(failures: Sequence[UpstreamFailure], attempts: Sequence[Attempt]) -> HearthError:
    """The typed error when every candidate has failed; what a local model said itself comes first."""
    last = failures[-1]
    said = "; ".join(f"{each.model}: {each.outcome}" for each in attempts[-8:])
    if last.error is not None:
        return last.error
    waits = [each.retry_after for each in failures if each.retry_after is not None]
    if all(each.kind in ("busy", "rate_limited", "over_quota") for each in failures):
        return Overloaded(
            f"every model that may answer is busy ({said})",
            code="upstream_busy",
            retry_after=min(waits, default=1.0),
        )
    if all(each.kind == "refused" for each in failures):
        return InvalidRequest(
            f"every model that may answer refused the request: {last.detail}", code="upstream_refused"
        )
    return Unavailable(f"no model answered ({said})", code="no_model_answered", retry_after=1.0)


def another_may_answer(error: HearthError) -> bool:
    """Whether another candidate may do better after a local model's error."""
    if isinstance(error, ContextLengthExceeded | Overloaded):
        return True
    return not isinstance(error, InvalidRequest | Cancelled | Draining)
