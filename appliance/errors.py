"""The one error tree: what went wrong, told once, where it is known.

HearthError
├─ InvalidRequest 400          the client can fix it
│  ├─ UnknownParameter         a name that this surface does not have
│  ├─ UnsupportedParameter     a known name or value that this server does not serve
│  ├─ MissingParameter
│  ├─ InvalidValue
│  ├─ InvalidJSON
│  ├─ ContextLengthExceeded    the prompt does not fit; it is never cut
│  └─ TemplateRefusal          the model's chat template refuses this conversation
├─ NotAuthenticated 401
├─ Forbidden 403
├─ NotFound 404
│  └─ ModelNotFound
├─ MethodNotAllowed 405
├─ Conflict 409                not as things stand: the model is pinned, or requests run on it
├─ RequestTimeout 408          the request took too long to arrive
├─ PayloadTooLarge 413
├─ HeadersTooLarge 431         a request's line and headers are more than they may be
├─ Overloaded 429              a queue or a rate is full; Retry-After says when to come back
├─ Cancelled 499               the client left or an operator ended it
├─ InternalError 500           a bug of ours, or a worker that answered nonsense
├─ NotServed 501               a known path of the surface that this server does not serve
├─ Unavailable 503
│  ├─ ModelLoading
│  ├─ DoesNotFit               the model needs more memory than models may have; retrying changes nothing
│  ├─ TooManyConnections
│  ├─ WorkerLost               the worker died under this request
│  └─ Draining                 the server is stopping
├─ DeadlineExceeded 504
├─ StorageFull 507
├─ ConfigError                 a setting is unknown, malformed or out of range
├─ SetupError                  the process cannot start as asked: busy port, missing model

This module does not know HTTP: `status` is the number the API's one table sends, and nothing here
renders a body. `pack` and `unpack` carry an error across a process boundary.
"""

from __future__ import annotations

from typing import ClassVar


class HearthError(Exception):
    """Base of every error that Hearth raises on purpose."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.detail_code = code or self.code
        self.retry_after = retry_after


class InvalidRequest(HearthError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class UnknownParameter(InvalidRequest):
    code = "unknown_parameter"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class InvalidValue(InvalidRequest):
    code = "invalid_value"


class InvalidJSON(InvalidRequest):
    code = "invalid_json"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class TemplateRefusal(InvalidRequest):
    code = "template_error"


class NotAuthenticated(HearthError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(HearthError):
    status, type, code = 403, "permission_error", "forbidden"


class NotFound(HearthError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(HearthError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflict(HearthError):
    status, type, code = 409, "invalid_request_error", "conflict"


class RequestTimeout(HearthError):
    status, type, code = 408, "invalid_request_error", "request_timeout"


class PayloadTooLarge(HearthError):
    status, type, code = 413, "invalid_request_error", "payload_too_large"


class HeadersTooLarge(HearthError):
    status, type, code = 431, "invalid_request_error", "headers_too_large"


class Overloaded(HearthError):
    status, type, code = 429, "overloaded_error", "queue_full"


class Cancelled(HearthError):
    status, type, code = 499, "cancelled_error", "cancelled"


class InternalError(HearthError):
    pass


class NotServed(HearthError):
    status, type, code = 501, "invalid_request_error", "not_served"


class Unavailable(HearthError):
    status, type, code = 503, "server_error", "unavailable"


class ModelLoading(Unavailable):
    code = "model_loading"


class DoesNotFit(Unavailable):
    code = "model_does_not_fit"


class TooManyConnections(Unavailable):
    code = "too_many_connections"


class WorkerLost(Unavailable):
    code = "worker_lost"


class Draining(Unavailable):
    code = "draining"


class DeadlineExceeded(HearthError):
    status, type, code = 504, "server_error", "deadline_exceeded"


class StorageFull(HearthError):
    status, type, code = 507, "server_error", "storage_full"


class ConfigError(HearthError):
    code = "config_error"


class SetupError(HearthError):
    code = "setup_error"


def _tree(root: type[HearthError]) -> dict[str, type[HearthError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_KINDS = _tree(HearthError)

type_names = tuple(sorted(_KINDS))


def pack(error: HearthError) -> dict[str, str | float | None]:
    """The error as plain values, for a frame between processes."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "param": error.param,
        "code": error.detail_code,
        "retry_after": error.retry_after,
    }


def unpack(fields: dict[str, str | float | None]) -> HearthError:
    """The error that `pack` described; an unknown kind becomes an InternalError with the same message."""
    kind = _KINDS.get(str(fields.get("kind")), InternalError)
    param, code, retry_after = fields.get("param"), fields.get("code"), fields.get("retry_after")
    return kind(
        str(fields.get("message", "")),
        param=None if param is None else str(param),
        code=None if code is None else str(code),
        retry_after=float(retry_after) if isinstance(retry_after, (int, float)) else None,
    )
