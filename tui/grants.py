"""Keys between a form's lines and the API's records; as rows, and in words. Pure but for the time of day.

A scope that is left empty is no restriction; `-` allows nothing. Expiry is written as a date, or as a stretch
from now: `30d`, `12h`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import get_args

from textual.content import Content

from appliance.admin import KeyStatus
from appliance.errors import InvalidValue
from appliance.principal import ROLES, Grant, Rates, Role, Tier
from tui import clock, format
from tui.dialogs.form import Field
from tui.language import say
from tui.widgets.table import Cell

NOTHING = "-"
SCOPES = ("models", "bases", "routes", "tools")
RATES = ("requests_per_minute", "tokens_per_minute", "concurrent")
STRETCH = re.compile(r"\A(\d{1,5})\s*([hd])\Z")
SECONDS = {"h": 3600, "d": 86_400}
DATE = "%Y-%m-%d"
STYLES = {"active": "$text-success", "expired": "$text-warning", "revoked": "$foreground-muted"}
MARKS = {"active": "●", "expired": "◌", "revoked": "✗"}
LABEL_CELLS = 18
JUST_NOW = 60.0


def fields(key: KeyStatus | None = None, least: Role = "user") -> tuple[Field, ...]:
    """The lines that describe a key; a new one's if None, of the role `least`."""
    grant = key.grant if key else Grant(role=least)
    tiers = ",".join(grant.tiers)
    tier_choices = dict.fromkeys(("default", "default,flex", "default,flex,priority", tiers))
    return (
        Field("name", say("access.name"), key.name if key else "", say("access.name_hint")),
        Field(
            "role",
            say("access.role"),
            grant.role,
            choices=tuple((role, say(f"roles.{role}")) for role in ROLES),
        ),
        *(
            Field(scope, say(f"access.{scope}"), written(getattr(grant, scope)), say("access.scope_hint"))
            for scope in SCOPES
        ),
        *(
            Field(rate, say(f"access.{rate}"), str(getattr(grant.rates, rate) or ""), say("access.rate_hint"))
            for rate in RATES
        ),
        Field("tiers", say("access.tiers"), tiers, choices=tuple((each, each) for each in tier_choices)),
        Field("expires", say("access.expires"), _date(key), say("access.expires_hint")),
    )


def grant_of(values: Mapping[str, str], before: Grant | None = None) -> Grant:
    """What a form's lines allow; the rest stays as `before`. Raises InvalidValue naming the line."""
    base = before or Grant()
    role = next(role for role in ROLES if role == values["role"])
    scopes = {scope: patterns(values[scope]) for scope in SCOPES}
    return Grant(
        role=role,
        **scopes,
        tiers=tuple(tier for tier in get_args(Tier) if tier in values["tiers"].split(",")),
        namespace=base.namespace,
        keeps_content=base.keeps_content,
        rates=Rates(**{rate: _rate(rate, values[rate]) for rate in RATES}),
    )


def patterns(text: str) -> tuple[str, ...] | None:
    """The patterns of a scope: None for no restriction, none at all for `-`."""
    if text == NOTHING:
        return ()
    return tuple(word.strip() for word in text.split(",") if word.strip()) or None


def written(scope: Sequence[str] | None) -> str:
    """A scope as a line."""
    if scope is None:
        return ""
    return ", ".join(scope) or NOTHING


def expiry(text: str, now: float) -> float | None:
    """When the key ends; None: never. Raises InvalidValue."""
    if not text:
        return None
    if stretch := STRETCH.match(text):
        return now + int(stretch[1]) * SECONDS[stretch[2]]
    try:
        found = datetime.strptime(text, DATE).timestamp()
    except ValueError:
        raise InvalidValue(say("access.wrong_expiry", text=text), param="expires") from None
    if found <= now:
        raise InvalidValue(say("access.past_expiry", text=text), param="expires")
    return found


def check(values: Mapping[str, str]) -> None:
    """Raises InvalidValue for a line that no key may have."""
    if not values["name"]:
        raise InvalidValue(say("access.no_name"), param="name")
    grant_of(values)
    expiry(values["expires"], clock.now())


def row(key: KeyStatus, now: float) -> tuple[Cell, ...]:
    state = Content.styled(f"{MARKS[key.state]} {say(f'key_state.{key.state}')}", STYLES[key.state])
    return (key.name, say(f"roles.{key.grant.role}"), state, _used(key, now), until(key, now), key.prefix)


def _used(key: KeyStatus, now: float) -> str:
    if key.last_used_at is None:
        return "–"
    passed = now - key.last_used_at
    return say("access.just_now") if passed < JUST_NOW else say("access.ago", time=format.seconds(passed))


def until(key: KeyStatus, now: float) -> str:
    if key.expires_at is None:
        return say("access.never")
    if key.expires_at <= now:
        return _date(key)
    return say("access.left", time=format.seconds(key.expires_at - now))


def described(key: KeyStatus) -> Content:
    """All that the key allows, line by line."""
    grant, rates = key.grant, key.grant.rates
    limits = [
        say(f"access.limit_{rate}", count=format.count(getattr(rates, rate)))
        for rate in RATES
        if getattr(rates, rate)
    ]
    lines = [
        ("access.role", say(f"roles_help.{grant.role}")),
        *((f"access.{scope}", _scope(getattr(grant, scope))) for scope in SCOPES),
        ("access.limits", ", ".join(limits) or say("access.no_limit")),
        ("access.tiers", ", ".join(grant.tiers) or say("access.nothing")),
        ("access.owner", key.owner),
        ("access.created", _moment(key.created_at)),
    ]
    return Content("\n").join(
        Content.assemble((format.fit(say(label), LABEL_CELLS), "$foreground-muted"), text)
        for label, text in lines
    )


def _scope(scope: Sequence[str] | None) -> str:
    if scope is None:
        return say("access.all")
    return ", ".join(scope) or say("access.nothing")


def _rate(rate: str, text: str) -> int:
    try:
        return int(text.replace(",", "").replace("_", "") or 0)
    except ValueError:
        raise InvalidValue(say("access.wrong_rate", text=text), param=rate) from None


def _date(key: KeyStatus | None) -> str:
    if key is None or key.expires_at is None:
        return ""
    return datetime.fromtimestamp(key.expires_at).strftime(DATE)


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when).strftime(f"{DATE} %H:%M")
