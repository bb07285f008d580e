"""The one table from typed errors to HTTP: OpenAI's error object, the status, Retry-After."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.unserved import refusal
from appliance.errors import (
    Conflict,
    DoesNotFit,
    HearthError,
    InternalError,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
)

log = logging.getLogger("hearth.api")

PRINCIPAL_KEY = "hearth.principal"  # in a scope: a Principal, or the NotAuthenticated that is raised instead


class ErrorBody(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(msgspec.Struct, kw_only=True):
    error: ErrorBody


def error_body(error: HearthError) -> ErrorReply:
    return ErrorReply(
        error=ErrorBody(message=error.message, type=error.type, param=error.param, code=error.detail_code)
    )


class AnthropicError(msgspec.Struct, kw_only=True):
    type: str
    message: str


class AnthropicReply(msgspec.Struct, kw_only=True):
    type: str = "error"
    error: AnthropicError


class OllamaReply(msgspec.Struct, kw_only=True):
    error: str


ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_error(error: HearthError) -> AnthropicReply:
    kind = "invalid_request_error" if error.status == HTTPStatus.BAD_REQUEST else "api_error"
    return AnthropicReply(
        error=AnthropicError(type=ANTHROPIC_TYPES.get(error.status, kind), message=error.message)
    )


def body_for(path: str, error: HearthError) -> msgspec.Struct:
    """The error as the clients of that path's surface read it."""
    if path.startswith("/v1/messages"):
        return anthropic_error(error)
    return OllamaReply(error=error.message) if path.startswith("/api/") else error_body(error)


def error_response(error: HearthError, path: str = "") -> Response:
    """The error as OpenAI's clients expect it; those retry by themselves when told how long to wait."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
        headers["retry-after-ms"] = str(round(error.retry_after * 1000))
    if error.status == HTTPStatus.NOT_IMPLEMENTED or isinstance(error, Conflict | DoesNotFit):
        headers["x-should-retry"] = "false"  # openai's clients ask again after 409 and any other 5xx
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="hearth"'
    return Response(
        msgspec.json.encode(body_for(path, error)),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )


async def handle_hearth_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HearthError)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("internal error: %s", error.message)
    return error_response(error, request.scope["path"])


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: a path without an answer, a method that it does not take."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]
    if isinstance(stranger := request.scope.get(PRINCIPAL_KEY), NotAuthenticated):
        return error_response(stranger, path)  # who may not come in is not told what there is
    typed: HearthError
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        typed = refusal(method, path) or MethodNotAllowed(f"{path} does not take {method}")
    elif error.status_code == HTTPStatus.NOT_FOUND:
        typed = refusal(method, path) or NotFound(
            f"there is no {path} on this server; see /openapi.json for what there is", code="path_not_found"
        )
    else:
        typed = InternalError(str(error.detail))
    response = error_response(typed, path)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def handle_unexpected(request: Request, error: Exception) -> Response:
    """A bug of ours: logged whole, told to the client without its insides."""
    log.error("unexpected error", exc_info=error)
    told = InternalError("an internal error occurred; the server's log has the details")
    return error_response(told, request.scope["path"])


HANDLERS: dict[Any, Any] = {
    HearthError: handle_hearth_error,
    HTTPException: handle_http_exception,
    Exception: handle_unexpected,
}
