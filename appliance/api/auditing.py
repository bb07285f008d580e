"""Every request's audit line: room for it before the request is answered, the line when it is over.

Stands in front of everything that could refuse a request, so that refusals have their lines too. What only
watches the server, again and again, has none while it is answered; it, and an operator who reads /admin, may
look even when the log cannot be written.
"""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance import activity, trace
from appliance.api.errors import error_response
from appliance.api.gate import principal_in
from appliance.api.inner import CLASS_KEY
from appliance.api.trail import Trail, trail_in, trail_of
from appliance.audit import AuditEntry, Event
from appliance.errors import HearthError
from appliance.runtime import Runtime
from appliance.security.audit.log import NO_TOKENS, AuditLog

WATCHED = frozenset(
    [
        *("/healthz", "/readyz", "/metrics", "/version", "/openapi.json", "/health", "/props", "/slots"),
        *("/admin/v1/status", "/admin/v1/models", "/admin/v1/requests", "/admin/v1/routing"),
        *("/admin/v1/history", "/admin/v1/logs", "/admin/v1/audit/status", "/admin/v1/whoami"),
        *("/admin/v1/keys", "/admin/v1/config", "/admin/v1/config/settings", "/admin/v1/backups"),
    ]
)
OTHER = "other"


def path_in(scope: Scope) -> str:
    """The path as the table of operations has it: a label that clients cannot multiply."""
    route = scope.get("route")
    return OTHER if route is None else str(route.path).replace(":path}", "}")


class Audited:
    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._runtime = app, runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        audit = self._runtime.audit
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if audit is None:
            try:
                await self._app(scope, receive, send)
            finally:
                self._count(trail_in(scope))
            return
        method, path = scope["method"], scope["path"]
        is_reading = method in ("GET", "HEAD")
        is_watching = is_reading and path in WATCHED
        trail = trail_in(scope)
        try:
            place = None if is_watching else audit.admit(always=is_reading and path.startswith("/admin/"))
        except HearthError as error:
            await error_response(error, path)(scope, receive, send)
            return
        status = 500

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = time.perf_counter()
        try:
            await self._app(scope, receive, noting_send)
        except BaseException:
            status = 499 if status == 500 else status  # cancelled with its connection
            raise
        finally:
            self._count(trail)
            if (place is None and status not in (401, 403)) or (trail.is_following and status == 200):
                if place is not None:
                    place.give_back()
            else:
                event: Event = "batch" if CLASS_KEY in scope else "request"
                entry = _entry(audit, scope, trail, event, status, time.perf_counter() - begun)
                (place or audit.admit(always=True)).fill(entry)

    def _count(self, trail: Trail) -> None:
        routes = [each.route.name for each in trail.asked if each.usage is not None]
        self._runtime.metrics.note_request(routes, trail.kinds, trail.privacy)


def note_background(http: Request, runtime: Runtime, status: int, begun: float) -> None:
    """The line of work that has outlived its request, at its end."""
    if runtime.audit is not None:
        seconds = time.perf_counter() - begun
        entry = _entry(runtime.audit, http.scope, trail_of(http), "background", status, seconds)
        runtime.audit.admit(always=True).fill(entry)


def _entry(
    audit: AuditLog, scope: Scope, trail: Trail, event: Event, status: int, seconds: float
) -> AuditEntry:
    context, route = trace.current.get(), trail.route
    # The line of a request whose work goes on says only that it began; the work's own line has the rest.
    is_over = event != "request" or not trail.goes_on
    return audit.entry(
        event,
        user=_user(scope),
        trace=context.trace if context is not None else "",
        request=activity.request_id.get(),
        endpoint=f"{scope['method']} {path_in(scope)}",
        model=route.model if route is not None and is_over else "",
        route=route.name if route is not None and is_over else "",
        platform=route.platform if route is not None and is_over and not route.is_local else "",
        status=status,
        sensitive=bool(trail.sensitive),
        kinds=trail.kinds,
        privacy=trail.privacy,
        tokens=trail.tokens if is_over else NO_TOKENS,
        seconds=round(seconds, 6),
        prompt=trail.prompt,
    )


def _user(scope: Scope) -> str:
    """Empty for who could not be told."""
    try:
        return principal_in(scope).id
    except HearthError:
        return ""
