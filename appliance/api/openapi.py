"""GET /openapi.json: the document is made from the route list and the very structs that check the bodies, so
it cannot fall behind them."""

from __future__ import annotations

import functools
import re
import typing
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from appliance import version
from appliance.api.operation import Operation
from appliance.api.routes import ERROR_REPLY, OPERATIONS

REF = "#/components/schemas/{name}"


@functools.cache
def document() -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    operations = [*OPERATIONS, DOCUMENT_OPERATION]
    kinds: set[type] = {ERROR_REPLY}
    for operation in operations:
        kinds |= {
            kind
            for kind in (operation.request, operation.reply, *(reply for _, reply in operation.extra_replies))
            if isinstance(kind, type)
        }
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REF)
    by_kind = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, by_kind)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Hearth",
                "version": version.VERSION,
                "description": "Local language models behind the OpenAI API.",
            },
            "paths": paths,
            "components": {"schemas": components},
        }
    )


async def get_document(_: Request) -> Response:
    return Response(document(), media_type="application/json")


DOCUMENT_OPERATION = Operation(
    "GET", "/openapi.json", get_document, "This document", "application/json", access="reader"
)


def _describe(operation: Operation, by_kind: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.handler.__name__ + ("_alias" if operation.path == "/health" else ""),
        "responses": _responses(operation, by_kind),
    }
    names = re.findall(r"\{(\w+)\}", operation.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    if operation.query is not None:
        parameters += _query_parameters(operation.query)
    if parameters:
        described["parameters"] = parameters
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {operation.request_media: {"schema": by_kind[operation.request]}},
        }
    return described


def _query_parameters(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        {"name": name, "in": "query", "required": False, "schema": msgspec.json.schema(hint)}
        for name, hint in hints.items()
    ]


def _responses(operation: Operation, by_kind: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(operation.reply, str):
        content: dict[str, Any] = {operation.reply: {}}
    else:
        content = {"application/json": {"schema": by_kind[operation.reply]}}
    if operation.streams:
        content["text/event-stream"] = {}
    responses: dict[str, Any] = {"200": {"description": "Done", "content": content}}
    for status in operation.errors:
        phrase = "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
        responses[str(status)] = {
            "description": phrase,
            "content": {"application/json": {"schema": by_kind[ERROR_REPLY]}},
        }
    for status, kind in operation.extra_replies:
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": by_kind[kind]}},
        }
    return responses
