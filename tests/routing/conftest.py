"""What the routing tests share: the scripted service, and the registry, requests and answers around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import msgspec
import pytest
import uvloop

from appliance.config.routing import Routing
from appliance.records import ChatPrompt, Message, SamplingParams
from appliance.routing.registry import Model, Registry, build_registry
from appliance.routing.request import RoutedRequest
from tests.upstream.behaviour import Behaviour
from tests.upstream.service import Service

Result = TypeVar("Result")
KEY = "sk-test-0123456789"
PATIENCE = {
    "connect_seconds": 2.0,
    "first_byte_seconds": 0.4,
    "between_bytes_seconds": 0.2,
    "health_seconds": 0,
}


def platform(name: str, service: Service, **fields: Any) -> dict[str, Any]:
    """The settings of a platform with one model, named like it, on `service`."""
    model = {"name": "big", "public_name": name, "quality": 90, "price_in": 1, "price_out": 2}
    model |= fields.pop("model", {})
    defaults = {"name": name, "api_base_url": service.url, "type": "vllm", "models": [model], **PATIENCE}
    return defaults | fields


def routing(*platforms: dict[str, Any], **fields: Any) -> Routing:
    return msgspec.convert({"mode": "hybrid", "platforms": platforms, **fields}, Routing)


def registry(settings: Routing, *local: Model, **environment: str) -> Registry:
    return build_registry(settings, local, {"TEST_KEY": KEY} | environment)


def request(model: str = "auto", content: str = "Say something.", **fields: Any) -> RoutedRequest:
    prompt = ChatPrompt(messages=(Message(role="user", content=content),))
    return RoutedRequest(**{"model": model, "prompt": prompt, "sampling": SamplingParams()} | fields)


# What a test built that holds connections; closed before its loop is, as the server does at its stop.
closers: list[Callable[[], None]] = []


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """On the loop that the server uses, with a limit that a hung test meets."""

    async def limited() -> Result:
        try:
            async with asyncio.timeout(60):
                return await work
        finally:
            for close in closers:
                close()
            closers.clear()
            await asyncio.sleep(0.01)

    return uvloop.run(limited())


@pytest.fixture
def start_service() -> Iterator[Callable[..., Service]]:
    """`start_service(*behaviours, **options)`: a service of the test's own, which ends with the test."""
    started: list[Service] = []

    def start(*behaviours: Behaviour, **options: Any) -> Service:
        service = Service(**options)
        service.script(*behaviours)
        started.append(service.__enter__())
        return service

    yield start
    for service in started:
        service.__exit__()
