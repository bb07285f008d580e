"""The one way from a request to a generation: who answers is decided here, by the router, for every surface.

A surface gives the prompt, the sampling and what the client itself set; headers say the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Literal, cast, get_args

from msgspec.structs import replace
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.inner import CLASS_KEY
from appliance.api.privacy import examined
from appliance.api.schemas import SamplingFields
from appliance.api.trail import trail_of
from appliance.api.waiting import Waiting
from appliance.config.routing import Task
from appliance.errors import Forbidden, InvalidValue
from appliance.principal import Principal
from appliance.records import (
    ChatPrompt,
    Constraint,
    Prompt,
    SamplingParams,
    SchedulingClass,
    TextPrompt,
    TokenPrompt,
)
from appliance.routing.encode import Counted, Result, RoutedCall
from appliance.routing.registry import Model
from appliance.routing.request import Events, Route, RoutedRequest
from appliance.routing.upstream import Upstream

POLICY_HEADER = "x-hearth-policy"
TASK_HEADER = "x-hearth-task"
CONVERSATION_HEADER = "x-hearth-conversation"

TIERS = ("auto", "default", "flex", "priority")  # of `service_tier`
TASKS = tuple(task for task in get_args(Task) if task not in ("embed", "rerank"))
_FORWARDED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "seed",
    "stop",
    "ignore_eos",
    "deterministic",
)


@dataclass(frozen=True)
class Generation:
    """A decided generation. `route` says who answers: sure from Started on, final at the end."""

    events: Events
    route: Callable[[], Route]
    waiting: Waiting = field(default_factory=Waiting)

    def with_events(self, events: Events) -> Generation:
        return replace_fields(self, events=events)


def given_of(request: SamplingFields) -> frozenset[str]:
    """The sampling parameters that the client itself set; others are left to the model that answers."""
    return frozenset(name for name in _FORWARDED if getattr(request, name) is not None)


def scheduling_class_of(tier: str | None) -> SchedulingClass:
    """`service_tier` as a class among those that wait; tiers that are not known here count as default."""
    return "flex" if tier == "flex" else "priority" if tier == "priority" else "default"


def open_generation(
    http: Request,
    *,
    model: str,
    prompt: Prompt,
    sampling: SamplingParams,
    given: frozenset[str] = frozenset(),
    choices: int = 1,
    constraint: Constraint | None = None,
    deadline: float | None = None,
    conversation: str = "",
    bases: tuple[str, ...] = (),
    is_local_only: bool = False,
    keep_alive: float | None = None,
    scheduling_class: SchedulingClass = "default",
) -> Generation:
    """Decide who answers; nothing is asked before `events` is iterated.

    `bases`: the knowledge bases whose text is in the prompt, by id and name. `is_local_only`: one of them
    forbids that it leaves. Raises ModelNotFound, InvalidValue, or the typed error when nobody may answer.
    """
    waiting = Waiting()
    request = routed_request(
        http,
        RoutedRequest(
            model=model,
            prompt=prompt,
            sampling=sampling,
            choices=choices,
            constraint=constraint,
            deadline=deadline,
            given=given,
            conversation=conversation,
            bases=bases,
            is_local_only=is_local_only,
            keep_alive=keep_alive,
            scheduling_class=http.scope.get(CLASS_KEY) or scheduling_class,
            on_wait=waiting.note,
        ),
    )
    request = examined(http, request)
    routed = runtime_of(http).router.open(request)
    trail_of(http).note(routed, request.sensitive)
    return Generation(routed.events(), lambda: routed.route, waiting)


def open_call(
    http: Request,
    task: Literal["embed", "rerank"],
    model: str,
    texts: Sequence[str | tuple[int, ...]],
    *,
    local: Callable[[Model], Awaitable[Counted[Result]]],
    online: Callable[[Upstream, Model], Awaitable[Counted[Result]]],
) -> RoutedCall[Result]:
    """The same for an embedding or a rerank of `texts`; raises the same."""
    words = [text for text in texts if isinstance(text, str)]
    prompt: Prompt = TextPrompt(text="".join(words))
    if len(words) < len(texts):
        prompt = TokenPrompt(tokens=tuple(n for text in texts if not isinstance(text, str) for n in text))
    request = RoutedRequest(
        model=model,
        prompt=prompt,
        sampling=SamplingParams(max_tokens=1),
        task=task,
        policy=http.headers.get(POLICY_HEADER, "")[:64],
    )
    request = _on_behalf(principal_of(http), request)
    request = examined(http, request)
    call = runtime_of(http).router.open_call(request, local=local, online=online)
    trail_of(http).note(call, request.sensitive)
    return call


def routed_request(http: Request, request: RoutedRequest) -> RoutedRequest:
    """`request` with what the key and the headers say. Raises InvalidValue for an unknown task."""
    task = http.headers.get(TASK_HEADER, "")
    if task and task not in TASKS:
        raise InvalidValue(
            f"there is no task {task[:40]!r}; there are: {', '.join(TASKS)}", param=TASK_HEADER
        )
    request = _on_behalf(principal_of(http), request)
    return replace(
        request,
        policy=http.headers.get(POLICY_HEADER, "")[:64],
        task=cast(Task, task) if task else request.task,
        conversation=http.headers.get(CONVERSATION_HEADER, "")[:256]
        or request.conversation
        or _conversation(request.prompt),
    )


def _on_behalf(principal: Principal, request: RoutedRequest) -> RoutedRequest:
    """The request as `principal` makes it. Raises Forbidden for a service tier that it may not ask for."""
    tier = request.scheduling_class
    if tier != "batch" and tier not in principal.grant.tiers:
        raise Forbidden(
            f"{principal.name!r} may not ask for service_tier {tier}; it may ask for: "
            f"{', '.join(principal.grant.tiers) or 'none'}",
            param="service_tier",
        )
    return replace(
        request,
        key=principal.name or principal.id,
        owner=principal.id,
        namespace=principal.grant.namespace,
        scope=principal.grant.models,
    )


def _conversation(prompt: Prompt) -> str:
    """What stays the same over all turns of a conversation: everything up to the first thing a user said."""
    if not isinstance(prompt, ChatPrompt):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for message in prompt.messages:
        digest.update(f"{message.role}\x1f{message.content}\x1e".encode("utf-8", "surrogatepass"))
        if message.role == "user":
            break
    return digest.hexdigest()
