"""The records of a routing decision: what the policy saw, whom it chose in which order, whom it left out and
why.

`Decision.require` turns a decision with nobody in it into the typed error that says what was missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from appliance.config.routing import Role, Task
from appliance.errors import ContextLengthExceeded, HearthError, Overloaded, Unavailable, UnsupportedParameter
from appliance.routing.registry import Model

Why = Literal["forbidden", "incapable", "context", "policy", "budget", "down"]

_PARAMETERS = {  # what a client named to need the capability
    "tools": ("tools", "tools"),
    "schema": ("answers that keep to a JSON schema", "response_format"),
    "grammar": ("answers that keep to a regex or grammar", "response_format"),
    "vision": ("images", "messages"),
    "logprobs": ("logprobs", "logprobs"),
    "completions": ("text completions", "prompt"),
    "tokens": ("prompts of token ids", "prompt"),
    "prefill": ("the continuation of a partial answer", "continue_final_message"),
    "bias": ("logit_bias", "logit_bias"),
}


class Facts(Struct, frozen=True, kw_only=True):
    """What a policy may know of a request; no text of it."""

    model: str
    task: Task = "chat"
    role: Role = "chat"
    key: str = ""
    conversation: str = ""
    bases: tuple[str, ...] = ()
    is_local_only: bool = False
    policy: str = ""  # as the request's header asks
    scope: tuple[str, ...] | None = None  # patterns of the models that the key may use; None: all
    needs: frozenset[str] = frozenset()
    prompt_tokens: int = 0
    answer_tokens: int = 0  # 0: no limit given
    draw: float = 0.0  # in [0, 1): the chance of a request that nothing sticks to


class ModelState(Struct, frozen=True, kw_only=True):
    """What is known of a model just now. Times are in seconds."""

    first_token_seconds: float | None = None  # measured; None: not yet
    token_seconds: float | None = None
    down_for: float = 0.0  # every instance's breaker is open for at least this long
    over_budget: str = ""  # the budget that is used up, in words


class Candidate(Struct, frozen=True, kw_only=True):
    model: Model
    reason: str
    arm: str = ""


class Rejected(Struct, frozen=True, kw_only=True):
    model: Model
    why: Why
    reason: str
    retry_after: float = 0.0
    lacks: tuple[str, ...] = ()


class Decision(Struct, frozen=True, kw_only=True):
    """`candidates` in the order to be tried; nobody is in both lists."""

    facts: Facts
    policy: str
    policy_reason: str
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]

    def require(self) -> tuple[Candidate, ...]:
        """The candidates; raises the typed error when there are none."""
        if self.candidates:
            return self.candidates
        raise refusal(self)


def refusal(decision: Decision) -> HearthError:
    """Why nobody may answer, as the error that helps most: what the client can change comes first."""
    rejected, facts = decision.rejected, decision.facts
    able = [each for each in rejected if each.why not in ("forbidden", "incapable", "context", "policy")]
    if able:
        waits = [each.retry_after for each in able if each.why == "down"]
        said = _sentences(able)
        if waits:
            wait = max(1.0, math.ceil(min(waits)))
            return Unavailable(f"no model can answer now: {said}", code="no_model_now", retry_after=wait)
        return Overloaded(f"no model may answer now: {said}", code="budget_used_up", retry_after=3600)
    incapable = [each for each in rejected if each.why == "incapable"]
    allowed = [each for each in rejected if each.why != "forbidden"]
    if incapable and len(incapable) == len(allowed):
        return _incapable(facts, incapable)
    too_long = [each for each in rejected if each.why == "context"]
    if too_long:
        longest = max(each.model.context_length for each in too_long)
        return ContextLengthExceeded(
            f"this request needs about {facts.prompt_tokens + facts.answer_tokens} tokens; the most that a "
            f"model here takes is {longest} ({_sentences(rejected)})",
            param="messages",
        )
    return Unavailable(
        f"no model may answer under the policy {decision.policy} ({decision.policy_reason}): "
        f"{_sentences(rejected) or 'there is none'}",
        code="no_model_allowed",
    )


def _incapable(facts: Facts, incapable: list[Rejected]) -> HearthError:
    nobody = sorted(facts.needs.intersection(*(each.lacks for each in incapable)))
    named = nobody or sorted({lack for each in incapable for lack in each.lacks})
    words = " and ".join(_PARAMETERS[name][0] for name in named)
    subject = "no model that may answer can do" if nobody else "no one model that may answer can do all of"
    return UnsupportedParameter(
        f"{subject} {words} ({_sentences(incapable)})",
        param=_PARAMETERS[named[0]][1],
        code="unsupported_capability",
    )


def _sentences(rejected: Iterable[Rejected]) -> str:
    said = [f"{each.model.public_name}: {each.reason}" for each in rejected]
    return "; ".join(said[:8]) + (f"; and {len(said) - 8} more" if len(said) > 8 else "")
