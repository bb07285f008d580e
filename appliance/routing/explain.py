"""A decision as plain values and as text, for `hearth route explain` and the dry-run endpoint."""

from __future__ import annotations

from typing import Any

from appliance.routing.decision import Decision
from appliance.routing.registry import Model


def decision_body(decision: Decision) -> dict[str, Any]:
    """The decision as JSON values."""
    return {
        "model": decision.facts.model,
        "task": decision.facts.task,
        "policy": decision.policy,
        "policy_reason": decision.policy_reason,
        "needs": sorted(decision.facts.needs),
        "prompt_tokens_guess": decision.facts.prompt_tokens,
        "candidates": [{**_model(c.model), "reason": c.reason, "arm": c.arm} for c in decision.candidates],
        "rejected": [{**_model(r.model), "why": r.why, "reason": r.reason} for r in decision.rejected],
    }


def decision_text(decision: Decision) -> str:
    """The decision in lines for a terminal."""
    lines = [f"{decision.facts.model}: policy {decision.policy} ({decision.policy_reason})"]
    for number, chosen in enumerate(decision.candidates, 1):
        lines.append(f"  {number}. {_name(chosen.model)}: {chosen.reason}")
    lines += [f"  not {_name(left.model)}: {left.reason}" for left in decision.rejected]
    if not decision.candidates:
        lines.append("  nobody answers")
    return "\n".join(lines)


def _model(model: Model) -> dict[str, Any]:
    return {
        "platform": model.platform,
        "model": model.public_name,
        "route": "local" if model.is_local else "online",
    }


def _name(model: Model) -> str:
    return f"{model.public_name} ({model.platform})"
