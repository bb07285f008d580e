"""What becomes of one request, gathered while it is answered: for its audit line, its figures, its logs.

A trail hangs in the request's scope from the first middleware on. Rooms that ask a model hand it what they
opened; it is read when all is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request
from starlette.types import Scope

from appliance.audit import AuditTokens, Privacy
from appliance.records import Usage
from appliance.routing.request import Route, Sensitive

KEY = "hearth.trail"
PROMPT_CHARACTERS = 16_384  # of a prompt that is logged; what is more is cut, and marked
CUT = "… [cut]"


class Asked(Protocol):
    """A generation or a call that was opened, however far it came."""

    @property
    def route(self) -> Route: ...
    @property
    def usage(self) -> Usage | None: ...


@dataclass
class Trail:
    asked: list[Asked] = field(default_factory=list)
    sensitive: list[Sensitive] = field(default_factory=list)
    prompt: str = ""
    is_following: bool = False  # reads new audit lines: a line of its own would be the next to read
    goes_on: bool = False  # the work outlives the request, and has a line of its own at its end

    def note(self, asked: Asked, sensitive: Sensitive | None) -> None:
        self.asked.append(asked)
        if sensitive is not None:
            self.sensitive.append(sensitive)

    @property
    def route(self) -> Route | None:
        """Of the first model that was asked."""
        return self.asked[0].route if self.asked else None

    @property
    def tokens(self) -> AuditTokens:
        """Of all that was asked, as far as it came."""
        usages = [usage for each in self.asked if (usage := each.usage) is not None]
        return AuditTokens(
            prompt=sum(usage.prompt_tokens for usage in usages),
            cached=sum(usage.cached_tokens for usage in usages),
            completion=sum(usage.completion_tokens for usage in usages),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for each in self.sensitive for kind in each.kinds))

    @property
    def privacy(self) -> Privacy:
        """What was done about it, as far as anything went online or was kept from that."""
        is_online = any(not each.route.is_local for each in self.asked)
        for each in self.sensitive:
            if each.action == "kept-local" or is_online:
                return each.action
        return ""


def trail_of(http: Request) -> Trail:
    return trail_in(http.scope)


def trail_in(scope: Scope) -> Trail:
    """The scope's trail, begun where there is none yet."""
    trail: Trail = scope.setdefault(KEY, Trail())
    return trail


def prompt_text(texts: list[str]) -> str:
    """As it is logged for keys that opted in."""
    text = "\n".join(texts)
    return text if len(text) <= PROMPT_CHARACTERS else text[:PROMPT_CHARACTERS] + CUT
