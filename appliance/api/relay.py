"""A generation relayed through a surface's writer: whole, or line by line as it comes.

What the surfaces beside OpenAI's share. A writer belongs to one request and knows its surface's words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import route_headers
from appliance.api.generation import Answer, collect, started_of
from appliance.api.opening import Generation
from appliance.api.sse import EventStream, unless_client_leaves
from appliance.errors import Cancelled, HearthError
from appliance.records import Delta, Ended, Started


class LineWriter(Protocol):
    def begin(self, started: Started) -> Iterable[bytes]: ...

    def feed(self, delta: Delta) -> Iterable[bytes]: ...

    def end(self, ended: Ended) -> Iterable[bytes]: ...

    def fail(self, error: HearthError) -> Iterable[bytes]: ...


async def streamed(
    http: Request, generation: Generation, writer: LineWriter, media_type: str, warnings: list[str]
) -> Response:
    """Nothing is sent before somebody answers, so that a refusal has its own status."""
    started = await unless_client_leaves(http, started_of(generation.events))
    headers = route_headers([generation.route()], [*warnings, *started.warnings])
    return EventStream(_lines(generation, started, writer), headers | {"content-type": media_type})


async def _lines(generation: Generation, started: Started, writer: LineWriter) -> AsyncGenerator[bytes]:
    try:
        for line in writer.begin(started):
            yield line
        async for event in generation.events:
            if isinstance(event, list):
                for delta in event:
                    for line in writer.feed(delta):
                        yield line
            elif isinstance(event, Ended):
                for line in writer.end(event):
                    yield line
    except Cancelled:
        return  # the client left; there is nobody to tell
    except HearthError as error:
        for line in writer.fail(error):
            yield line
    finally:
        await generation.events.aclose()


async def whole(http: Request, generation: Generation) -> Answer:
    """The finished answer of one choice, with its route."""
    try:
        answer = await unless_client_leaves(http, collect(generation.events))
    finally:
        await generation.events.aclose()
    answer.routes.append(generation.route())
    return answer
