"""Responses that outlive their request: queued, made while nobody waits, looked at, followed, cancelled."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.auditing import note_background
from appliance.api.background import Background, Run
from appliance.api.context import principal_of, runtime_of
from appliance.api.responses.context import RESPONSE, UNFINISHED
from appliance.api.responses.events import Event
from appliance.api.responses.keeping import body_with, keep_response, queue_response
from appliance.api.responses.replies import ResponseBody
from appliance.api.responses.running import Job
from appliance.api.sse import named_event
from appliance.api.trail import trail_of
from appliance.archive import Archive
from appliance.errors import Cancelled, HearthError
from appliance.principal import Principal

_encode = msgspec.json.Encoder().encode
_STATUSES = {"completed": 200, "incomplete": 200, "cancelled": 499}


def background_of(http: Request) -> Background:
    found: Background = http.app.state.background
    return found


async def begin(http: Request, job: Job) -> Run:
    """Queue the response durably and let it run. Raises Overloaded."""
    background = background_of(http)
    background.check_room()
    job.body.status = "queued"
    await queue_response(http, job.body)
    trail_of(http).goes_on = True
    return background.begin(job.body.id, lambda: job.body, lambda run: _make_held(http, job, run))


async def _make_held(http: Request, job: Job, run: Run) -> None:
    """As long as the credential that it was asked with is good; then as if it were cancelled."""
    principal = principal_of(http)
    if not principal.credential:
        await _make(http, job, run)
        return

    def end(_: str) -> None:
        if run.task is not None:
            run.task.cancel()

    access = runtime_of(http).access
    with access.running.hold(principal.credential, end, access.keyring.expires_at(principal.credential)):
        await _make(http, job, run)


async def _make(http: Request, job: Job, run: Run) -> None:
    begun = time.perf_counter()

    def tell(event: Event) -> None:
        run.add(named_event(event.type, _encode(event)))

    try:
        try:
            await job.start()
        except Cancelled:
            raise
        except HearthError as error:
            tell(job.writer.lifecycle("created"))
            failed = job.writer.fail(error)
            await keep_response(http, job.body, job.new_items)
            tell(failed)
            return
        async for event in job.events():
            tell(event)
    except (asyncio.CancelledError, Cancelled):
        job.body.status = "cancelled"
        if not background_of(http).is_stopping:  # which is told at the next start
            await keep_response(http, job.body, job.new_items)
        raise
    finally:
        await job.close()
        note_background(http, runtime_of(http), _STATUSES.get(job.body.status, 500), begun)


async def fail_interrupted(archive: Archive) -> None:
    """After a restart: what was under way when the server ended is told to have failed."""
    error = {"code": "server_error", "message": "the server was stopped while this response was made"}
    change = body_with("failed", error)
    for found in await archive.in_state(RESPONSE, *UNFINISHED):
        await archive.change(
            Principal(found.owner), RESPONSE, found.id, lambda kept: change(kept.body), state="failed"
        )


def live_body(http: Request, id: str) -> ResponseBody | None:
    """The response as it stands, while it is made."""
    background = background_of(http)
    run = background.find(id) if background.is_running(id) else None
    body: Any = run.snapshot() if run is not None else None
    return body if isinstance(body, ResponseBody) else None
