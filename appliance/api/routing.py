"""/admin/v1/routing: the models that may answer, how they do, and who would answer a request."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.grounding import Grounding
from appliance.api.operation import Operation
from appliance.api.schemas import Label, ModelName
from appliance.config.routing import Task
from appliance.records import ChatPrompt, Image, JsonConstraint, Message, SamplingParams, Tool
from appliance.routing.explain import decision_body
from appliance.routing.request import RoutedRequest
from appliance.telemetry.models import HERE, Summary

Needs = Literal["tools", "schema", "logprobs", "vision"]


class PlaceBody(Struct, kw_only=True):
    """One server of a model; `running`: calls now; `down_for`: seconds until it is asked again."""

    instance: str
    running: int
    breaker: Literal["closed", "half-open", "open"]
    down_for: float
    figures: Summary


class RoutedModelBody(Struct, kw_only=True):
    """`waiting`: requests that wait for a place. Times in seconds, smoothed; null: not measured yet."""

    id: str
    platform: str
    route: Literal["local", "online"]
    role: str
    quality: int
    price_in: float
    price_out: float
    waiting: int
    first_token_seconds: float | None
    token_seconds: float | None
    places: list[PlaceBody]


class RoutingBody(Struct, kw_only=True):
    """`refused_egress`: attempts to leave that the guard in Python refused; `is_sealed`: the kernel refuses
    this process every network socket. `arms`: the results of the policy `split`, by the arm's model."""

    mode: Literal["offline", "hybrid"]
    policy: str
    refused_egress: int
    is_sealed: bool
    aliases: dict[str, list[str]]
    models: list[RoutedModelBody]
    arms: dict[str, Summary]


class CandidateBody(Struct, kw_only=True):
    platform: str
    model: str
    route: Literal["local", "online"]
    reason: str
    arm: str


class RejectedBody(Struct, kw_only=True):
    platform: str
    model: str
    route: Literal["local", "online"]
    why: str
    reason: str


class DecisionBody(Struct, kw_only=True):
    model: str
    task: str
    policy: str
    policy_reason: str
    needs: list[str]
    prompt_tokens_guess: int
    candidates: list[CandidateBody]
    rejected: list[RejectedBody]


class Explanation(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request as far as routing sees it. `needs`: what it would use."""

    model: ModelName = "auto"
    task: Task = "chat"
    key: Label | None = None
    policy: Label = ""
    knowledge: Label = ""
    conversation: Label = ""
    prompt: Annotated[str, Meta(max_length=1_000_000)] = ""
    max_tokens: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    needs: Annotated[list[Needs], Meta(max_length=8)] = []


async def get_routing(http: Request) -> Response:
    runtime = runtime_of(http)
    routing = runtime.settings.routing
    counted = runtime.metrics.models.instances()
    models = []
    for each in runtime.router.figures():
        name, platform = each.model.public_name, each.model.platform
        places = [
            PlaceBody(
                instance=place.url,
                running=place.running,
                breaker=place.breaker,
                down_for=place.down_for,
                figures=counted.get((platform, name, place.url), Summary()),
            )
            for place in each.places
        ]
        if each.model.is_local:
            figures = counted.get((platform, name, HERE), Summary())
            places = [PlaceBody(instance=HERE, running=0, breaker="closed", down_for=0, figures=figures)]
        models.append(
            RoutedModelBody(
                id=name,
                platform=platform,
                route="local" if each.model.is_local else "online",
                role=each.model.role,
                quality=each.model.quality,
                price_in=each.model.price_in,
                price_out=each.model.price_out,
                waiting=each.waiting,
                first_token_seconds=each.first_token_seconds,
                token_seconds=each.token_seconds,
                places=places,
            )
        )
    return json_body(
        RoutingBody(
            mode=routing.mode,
            policy=routing.policy,
            refused_egress=runtime.guard.refused,
            is_sealed=runtime.is_sealed,
            aliases={name: list(targets) for name, targets in routing.aliases.items()},
            models=models,
            arms=runtime.metrics.models.arms(),
        )
    )


async def explain_route(http: Request) -> Response:
    """A dry run: nothing is asked of any model. Raises NotFound for a knowledge base that is not there."""
    asked = await read_request(http, Explanation)
    runtime, principal = runtime_of(http), principal_of(http)
    grounding = Grounding(asked.model)
    if asked.knowledge:
        grounding = Grounding(asked.model, [await runtime.knowledge.bases.find(principal, asked.knowledge)])
    images = (Image(url="data:image/png;base64,"),) if "vision" in asked.needs else ()
    prompt = ChatPrompt(
        messages=(Message(role="user", content=asked.prompt, images=images),),
        tools=(Tool(name="any"),) if "tools" in asked.needs else (),
    )
    decision = runtime.router.explain(
        RoutedRequest(
            model=asked.model,
            prompt=prompt,
            sampling=SamplingParams(
                max_tokens=asked.max_tokens or None, top_logprobs=0 if "logprobs" in asked.needs else None
            ),
            constraint=JsonConstraint() if "schema" in asked.needs else None,
            task=asked.task,
            key=principal.name if asked.key is None else asked.key,
            policy=asked.policy,
            bases=grounding.bases,
            is_local_only=grounding.is_local_only,
            conversation=asked.conversation,
        )
    )
    return json_body(msgspec.convert(decision_body(decision), DecisionBody))


ROUTING_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/routing",
        get_routing,
        "Who may answer, and how they do",
        RoutingBody,
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/routing/explain",
        explain_route,
        "Who would answer a request, and why",
        DecisionBody,
        Explanation,
        (400, 404),
        access="operator",
    ),
)
