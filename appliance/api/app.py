"""The ASGI application: routes, error table, request ids and figures; all else is in the rooms below."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance import activity, trace
from appliance.api.addressed import Addressed
from appliance.api.auditing import WATCHED, Audited, path_in
from appliance.api.background import Background
from appliance.api.batches.runner import Runner
from appliance.api.errors import HANDLERS
from appliance.api.gate import Gate, authorise
from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.operation import Handler, Operation
from appliance.api.responses.background import fail_interrupted
from appliance.api.routes import OPERATIONS
from appliance.runtime import Runtime

REQUEST_ID = re.compile(r"\A[A-Za-z0-9._-]{1,128}\Z")


def build_app(runtime: Runtime) -> ASGIApp:
    """The application over `runtime`, which starts and stops with it."""

    background = Background(runtime.settings.archive.background)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        runtime.start()
        if runtime.has_archive:
            await fail_interrupted(runtime.archive)
            batches.start()
        try:
            yield
        finally:
            await batches.stop()
            await background.stop()
            await runtime.stop()

    operations: dict[str, dict[str, Operation]] = {}
    for operation in (*OPERATIONS, DOCUMENT_OPERATION):
        operations.setdefault(operation.path, {})[operation.method] = operation
    app = Starlette(
        routes=[
            # A model's name may have a slash: platform/model.
            Route(
                path.replace("/v1/models/{model}", "/v1/models/{model:path}")
                if path.startswith("/v1/")
                else path,
                _by_method(found),
                methods=list(found),
            )
            # One path's pattern may cover another path: what is named in full comes first.
            for path, found in sorted(operations.items(), key=lambda item: item[0].count("{"))
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host the client names
    batches = Runner(runtime, Audited(Gate(app, runtime), runtime))
    app.state.runtime, app.state.background, app.state.batches = runtime, background, batches
    return Observed(Audited(Addressed(Gate(app, runtime), runtime), runtime), runtime)


def _by_method(operations: dict[str, Operation]) -> Handler:
    """One handler for a path, so that a refused method is told of all that the path takes."""

    async def handle(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        authorise(request, operation)
        return await operation.handler(request)

    return handle


class Observed:
    """Gives every request its id and its trace, and counts its answer; outermost, so that our own bugs have
    them too.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._metrics, self._recorder = app, runtime.metrics, runtime.recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id),
                    (b"traceparent", context.traceparent().encode("ascii")),
                ]
            await send(message)

        activity.request_id.set(request_id.decode("latin-1"))
        context = trace.begin(_header(scope, b"traceparent"), _header(scope, b"tracestate"))
        trace.current.set(context)
        begun = time.perf_counter()
        self._metrics.count_session(+1)
        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._metrics.count_session(-1)
            path = path_in(scope)
            if path not in WATCHED:
                self._recorder.note_status(status)
            self._metrics.count_request(path, scope["method"], status, time.perf_counter() - begun)


def _header(scope: Scope, name: bytes) -> str:
    """Empty unless it is there once, or is a list that may be given in parts."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ",".join(values) if len(values) == 1 or name == b"tracestate" else ""


def _request_id(scope: Scope) -> bytes:
    """The client's own id when it is harmless, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.match(value.decode("latin-1")):
            return bytes(value)
    return f"req-{secrets.token_hex(12)}".encode()
