"""The models of this machine as routing sees them: what each can do, and the worker's handle behind it.

Knows no process: a handle is whatever generates, found anew for each request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance.config.routing import Role
from appliance.records import (
    Accepted,
    ChatPrompt,
    Constraint,
    Progress,
    Prompt,
    SamplingParams,
    SchedulingClass,
)
from appliance.routing.registry import LOCAL, Model
from appliance.routing.request import Events, RoutedRequest, continued

# What every GGUF model gets from our engine, whatever it was trained for.
CHAT_CAPABILITIES = frozenset(
    ["tools", "schema", "grammar", "logprobs", "completions", "tokens", "bias", "prefill"]
)


class Generator(Protocol):
    """A worker's handle, as `workers.handles` has it."""

    def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        choices: int,
        constraint: Constraint | None,
        deadline: float | None,
        scheduling_class: SchedulingClass,
        owner: str,
        namespace: str,
        keep_alive: float | None,
        on_wait: Callable[[Accepted | Progress], None] | None,
    ) -> Events: ...


class LocalGenerator:
    """`find` gives the model's handle as it is now, or raises the typed error that says why there is none.

    `shares_prefixes`: whether what was computed of one key's prompt may serve another key's.
    """

    def __init__(self, find: Callable[[], Generator], *, shares_prefixes: bool = True) -> None:
        self._find, self._shares_prefixes = find, shares_prefixes

    def generate(self, request: RoutedRequest, *, partial: str, deadline: float | None) -> Events:
        prompt = request.prompt
        if isinstance(prompt, ChatPrompt):
            prompt = continued(prompt, partial)
        return self._find().generate(
            prompt,
            request.sampling,
            choices=request.choices,
            constraint=request.constraint,
            deadline=deadline,
            scheduling_class=request.scheduling_class,
            owner=request.owner or request.key,
            namespace=request.namespace or ("" if self._shares_prefixes else request.owner or request.key),
            keep_alive=request.keep_alive,
            on_wait=request.on_wait,
        )


def local_model(name: str, role: Role, *, context_length: int, quality: int) -> Model:
    return Model(
        platform=LOCAL,
        name=name,
        public_name=name,
        role=role,
        context_length=context_length,
        capabilities=CHAT_CAPABILITIES if role == "chat" else frozenset(["tokens"]),
        quality=quality,
        continuation="prefix",
    )
