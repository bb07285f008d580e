"""How a handler gets at the runtime, and at its request body."""

from __future__ import annotations

from typing import TypeVar

from starlette.requests import Request

from appliance.api.body import read_json
from appliance.api.gate import principal_in
from appliance.api.validate import convert
from appliance.errors import Forbidden
from appliance.principal import Principal
from appliance.runtime import Runtime

Body = TypeVar("Body")


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def principal_of(request: Request) -> Principal:
    """On whose behalf the request is made. Raises NotAuthenticated."""
    return principal_in(request.scope)


def require_keeper(request: Request, param: str) -> None:
    """Raises Forbidden for whom nothing is kept."""
    principal = principal_of(request)
    if not principal.has_role("user"):
        raise Forbidden(
            f"nothing is kept for the role {principal.role}, which {principal.name!r} has", param=param
        )


async def read_request(request: Request, kind: type[Body]) -> Body:
    """The body as `kind`, within the configured limits. Raises the errors of `body` and `validate`."""
    limits = runtime_of(request).settings.limits
    value = await read_json(request, max_bytes=limits.body_bytes, max_depth=limits.json_depth)
    return convert(value, kind)
