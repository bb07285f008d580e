"""/v1/files: upload, list, look at, download, delete."""

from __future__ import annotations

import asyncio
import re
import typing

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, runtime_of
from appliance.api.knowledge_replies import Deleted, FileList, file_object
from appliance.api.knowledge_schemas import ListFilesQuery, Purpose
from appliance.api.multipart import Form
from appliance.api.query import read_query
from appliance.errors import InternalError, InvalidValue, MissingParameter, PayloadTooLarge, UnknownParameter
from appliance.knowledge.files import Received
from appliance.store.rows import Page

PURPOSES = typing.get_args(Purpose)
FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
FORM_BYTES = 64 * 1024  # of an upload that are not the file
LEAST_SECONDS, MOST_SECONDS = 3600, 2_592_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def create_file(http: Request) -> Response:
    knowledge = runtime_of(http).knowledge
    most = runtime_of(http).settings.knowledge.file_bytes
    announced = http.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most + FORM_BYTES:
        raise PayloadTooLarge(f"the file is larger than {most} bytes (knowledge.file_bytes)")
    fields: dict[str, str] = {}
    received: Received | None = None
    name = ""
    try:
        async for part in Form(http).parts():
            if part.name == "file":
                if received is not None:
                    raise InvalidValue("the form has several files; send one per request", param="file")
                name = clean_name(part.filename)
                received = await knowledge.files.receive(part.pieces())
            elif part.name in FIELDS:
                fields[part.name] = await part.text()
            else:
                raise UnknownParameter(f"there is no form field {part.name!r} here", param=part.name)
        if received is None:
            raise MissingParameter("the form has no part `file` with a file in it", param="file")
        file = await knowledge.files.keep(
            principal_of(http), received, name, _purpose(fields), seconds_to_live=_seconds_to_live(fields)
        )
    finally:
        if received is not None:
            knowledge.files.discard(received)
    return json_body(file_object(file))


class StoredBytes(FileResponse):
    """Each piece is read in a thread: few large ones leave the event loop to others."""

    chunk_size = 256 * 1024


async def list_files(http: Request) -> Response:
    query = read_query(http, ListFilesQuery)
    page = Page(limit=query.limit, order=query.order, after=query.after or "")
    found, has_more = await runtime_of(http).knowledge.files.list(
        principal_of(http), page, query.purpose or ""
    )
    return json_body(
        FileList(
            data=[file_object(file) for file in found],
            first_id=found[0].id if found else None,
            last_id=found[-1].id if found else None,
            has_more=has_more,
        )
    )


async def get_file(http: Request) -> Response:
    file = await runtime_of(http).knowledge.files.get(principal_of(http), http.path_params["file_id"])
    return json_body(file_object(file))


async def get_file_content(http: Request) -> Response:
    knowledge = runtime_of(http).knowledge
    file = await knowledge.files.get(principal_of(http), http.path_params["file_id"])
    path = knowledge.files.path(file.id)
    try:
        facts = await asyncio.to_thread(path.stat)
    except FileNotFoundError:
        raise InternalError(f"the bytes of the file {file.id} are gone from this server's disk") from None
    return StoredBytes(
        path,
        stat_result=facts,
        media_type="application/octet-stream",
        filename=file.name,
        headers={"x-content-type-options": "nosniff"},
    )


async def delete_file(http: Request) -> Response:
    id = http.path_params["file_id"]
    await runtime_of(http).knowledge.files.remove(principal_of(http), id)
    return json_body(Deleted(id=id, object="file"))


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.get("purpose")
    if purpose is None:
        raise MissingParameter("the form field 'purpose' is required", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidValue(f"purpose is {purpose[:80]!r}; it may be {', '.join(PURPOSES)}", param="purpose")
    return purpose


def _seconds_to_live(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidValue("expires_after[anchor] may only be created_at", param="expires_after[anchor]")
    number = int(seconds) if seconds is not None and seconds.isdigit() else 0
    if not LEAST_SECONDS <= number <= MOST_SECONDS:
        raise InvalidValue(
            f"expires_after[seconds] is {seconds}; it may be {LEAST_SECONDS} to {MOST_SECONDS}",
            param="expires_after[seconds]",
        )
    return number


def clean_name(sent: str | None) -> str:
    """The file's own name, without the folders that a client may have sent along."""
    name = _CONTROL.sub("", (sent or "").replace("\\", "/").rsplit("/", 1)[-1]).strip()
    return name[-255:] or "file"
