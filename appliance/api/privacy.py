"""Personal data and secrets in a request: looked for before it is decided who answers, and what that means.

The setting `privacy.sensitive` says what is done; nothing of what was found is kept, only its kinds.
"""

from __future__ import annotations

from msgspec.structs import replace
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.trail import prompt_text, trail_of
from appliance.audit import Privacy
from appliance.records import TokenPrompt
from appliance.routing.outbound import formal_texts, prompt_texts
from appliance.routing.request import RoutedRequest, Sensitive, role_of
from appliance.security.sensitive.detector import MOST_CHARACTERS

UNEXAMINED = "unexamined"  # too long to be looked at, or token ids


def examined(http: Request, request: RoutedRequest) -> RoutedRequest:
    """`request` with what was found in it, and kept here where the settings want that."""
    settings = runtime_of(http).settings
    texts, formal = prompt_texts(request), formal_texts(request)
    if principal_of(http).grant.keeps_content:
        trail_of(http).prompt = prompt_text(texts)
    if settings.privacy.sensitive == "off":
        return request
    detector = runtime_of(http).detector
    in_texts: tuple[str, ...] = ()
    in_formal: tuple[str, ...] = ()
    # Token ids mean nothing to another service, and are not sent.
    if sum(map(len, texts)) + sum(map(len, formal)) > MOST_CHARACTERS:
        in_formal = (UNEXAMINED,)
    elif not isinstance(request.prompt, TokenPrompt):
        in_texts, in_formal = detector.kinds_in(texts), detector.kinds_in(formal)
    if not in_texts and not in_formal:
        return request
    kinds = tuple(dict.fromkeys((*in_texts, *in_formal)))
    can_be_redacted = not in_formal and role_of(request.task) == "chat"
    match settings.privacy.sensitive:
        case "keep-local":
            action: Privacy = "kept-local"
        case "redact":
            action = "redacted" if can_be_redacted else "kept-local"
        case _:
            action = "told"
    if settings.routing.mode == "offline":
        return replace(request, sensitive=Sensitive(kinds=kinds))
    return replace(
        request,
        sensitive=Sensitive(
            kinds=kinds, action=action, redact=detector.redact if action == "redacted" else None
        ),
        is_local_only=request.is_local_only or action == "kept-local",
    )
