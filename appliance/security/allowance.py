"""From the settings' words for what somebody may do to the grant that every room knows."""

from __future__ import annotations

from appliance.config.access import Allowance
from appliance.principal import Grant, Role

ALL = ("*",)


def grant_of(role: Role, allowance: Allowance) -> Grant:
    return Grant(
        role=role,
        models=_scope(allowance.models),
        bases=_scope(allowance.bases),
        routes=_scope(allowance.routes),
        tools=allowance.tools or None,
        tiers=allowance.tiers,
        rates=allowance.rates,
    )


def _scope(patterns: tuple[str, ...]) -> tuple[str, ...] | None:
    return None if patterns == ALL else patterns
