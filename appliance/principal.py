"""Who asks, and what they may: an owner of data, a role, and the scopes of the credential they came with.

Plain values that every room may pass on. How somebody proved who they are is `security`'s business; which
rows they see is the data layer's, by `Principal.id` and `Grant.bases`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct, field

Role = Literal["reader", "user", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may what those before it may
Tier = Literal["default", "flex", "priority"]

Pattern = Annotated[str, Meta(min_length=1, max_length=256)]
Patterns = Annotated[tuple[Pattern, ...], Meta(max_length=256)]
MOST = 1_000_000_000

LOCAL_OWNER = "local"


class Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much may be asked; 0: no limit."""

    requests_per_minute: Annotated[int, Meta(ge=0, le=MOST, description="requests a minute; 0: no limit")] = 0
    tokens_per_minute: Annotated[
        int, Meta(ge=0, le=MOST, description="tokens of prompts and answers a minute; 0: no limit")
    ] = 0
    concurrent: Annotated[
        int, Meta(ge=0, le=MOST, description="requests under way at the same time; 0: no limit")
    ] = 0


class Grant(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a credential allows. A scope is shell patterns of names (`*` is all), None: no restriction.

    `routes` are patterns of paths, or of `METHOD path`. `tools`: server-side tools; None: none of them.
    `namespace`: what shares computed prompts; empty: as the settings say. `keeps_content`: prompts of this
    credential may stand in the audit log.
    """

    role: Role = "user"
    models: Patterns | None = None
    bases: Patterns | None = None
    routes: Patterns | None = None
    tools: Patterns | None = None
    tiers: tuple[Tier, ...] = ("default", "flex")
    namespace: Annotated[str, Meta(max_length=64)] = ""
    keeps_content: bool = False
    rates: Rates = field(default_factory=Rates)


class Principal(Struct, frozen=True):
    """On whose behalf something is asked. Every query that reads or changes what is owned takes one.

    `id` owns data; `name` is for people, rules and budgets; `credential` is what was shown (`key_…`, `jwt:…`,
    `cert:…`), empty for this machine's own user.
    """

    id: str
    name: str = ""
    credential: str = ""
    grant: Grant = Grant()

    @property
    def role(self) -> Role:
        return self.grant.role

    def has_role(self, least: Role) -> bool:
        return ROLES.index(self.grant.role) >= ROLES.index(least)

    def may_use_model(self, name: str) -> bool:
        return _matches(self.grant.models, name)

    def may_use_base(self, id: str, name: str) -> bool:
        return _matches(self.grant.bases, id) or _matches(self.grant.bases, name)

    def may_use_tool(self, name: str) -> bool:
        return self.grant.tools is not None and _matches(self.grant.tools, name)

    def may_call(self, method: str, path: str) -> bool:
        return _matches(self.grant.routes, path) or _matches(self.grant.routes, f"{method} {path}")


def _matches(patterns: tuple[str, ...] | None, name: str) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


# This machine's own user, who needs no key on loopback.
LOCAL = Principal(LOCAL_OWNER, LOCAL_OWNER, "", Grant(role="admin", tiers=("default", "flex", "priority")))
