"""/v1/uploads: a large file in parts, which become one file when all are here."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.files import clean_name
from appliance.api.generation import now
from appliance.api.knowledge_replies import FileObject, file_object
from appliance.api.knowledge_schemas import Purpose
from appliance.api.multipart import Form
from appliance.api.operation import Operation
from appliance.archive import Archive
from appliance.errors import InvalidValue, MissingParameter, PayloadTooLarge, UnknownParameter
from appliance.store.objects import Kept, KeptItem
from appliance.store.parts import Parts

KIND = "upload"
LIFETIME_SECONDS = 3600
MOST_PART_BYTES = 64 * 1024 * 1024
MOST_PARTS = 1000
Id = Annotated[str, Meta(min_length=1, max_length=64)]


class ExpiresAfter(Struct, forbid_unknown_fields=True, kw_only=True):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class CreateUpload(Struct, forbid_unknown_fields=True, kw_only=True):
    filename: Annotated[str, Meta(min_length=1, max_length=255)]
    bytes: Annotated[int, Meta(ge=1, le=2**53)]
    purpose: Purpose
    mime_type: Annotated[str, Meta(max_length=256)]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Struct, forbid_unknown_fields=True, kw_only=True):
    part_ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[str, Meta(max_length=64)] | None = None


class PartForm(Struct, kw_only=True):
    """The form of a part; `data` is a part with a file name."""

    data: str


class Upload(Struct, kw_only=True):
    """`seconds` is ours: how long the file lives, where that was said."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    file: FileObject | None = None
    seconds: int | None = None


class UploadPart(Struct, kw_only=True):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


async def create_upload(http: Request) -> Response:
    request = await read_request(http, CreateUpload)
    runtime, archive = runtime_of(http), runtime_of(http).archive
    most = runtime.settings.knowledge.file_bytes
    if request.bytes > most:
        raise PayloadTooLarge(f"the file is larger than {most} bytes (knowledge.file_bytes)", param="bytes")
    await _sweep(archive)
    begun = now()
    upload = Upload(
        id=f"upload_{secrets.token_hex(16)}",
        bytes=request.bytes,
        created_at=begun,
        expires_at=begun + LIFETIME_SECONDS,
        filename=clean_name(request.filename),
        purpose=request.purpose,
        seconds=request.expires_after.seconds if request.expires_after else None,
    )
    kept = archive.new(
        principal_of(http), KIND, upload.id, msgspec.json.encode(upload), expires_at=upload.expires_at
    )
    await archive.keep(kept)
    return json_body(upload)


async def create_upload_part(http: Request) -> Response:
    archive, principal = runtime_of(http).archive, principal_of(http)
    upload = await _pending(http)
    part = f"part_{secrets.token_hex(16)}"
    received = False
    async for field in Form(http).parts():
        if field.name != "data":
            raise UnknownParameter(f"there is no form field {field.name!r} here", param=field.name)
        if received:
            raise InvalidValue("the form has several parts; send one per request", param="data")
        size = await _parts(archive).receive(upload.id, part, field.pieces())
        received = True
    if not received:
        raise MissingParameter("the form has no part `data` with bytes in it", param="data")
    held = await archive.items(principal, KIND, upload.id)
    if len(held) >= MOST_PARTS or sum(int(item.side) for item in held) + size > upload.bytes:
        raise InvalidValue(
            f"the parts have more than the {upload.bytes} bytes that were announced", param="data"
        )
    await archive.append(principal, KIND, upload.id, [KeptItem(id=part, side=str(size), body=b"{}")])
    return json_body(UploadPart(id=part, created_at=now(), upload_id=upload.id))


async def complete_upload(http: Request) -> Response:
    """The parts in the order given become the file."""
    request = await read_request(http, CompleteUpload)
    archive, knowledge, principal = runtime_of(http).archive, runtime_of(http).knowledge, principal_of(http)
    upload = await _pending(http)
    sizes = {item.id: int(item.side) for item in await archive.items(principal, KIND, upload.id)}
    for index, part in enumerate(request.part_ids):
        if part not in sizes:
            raise InvalidValue(f"there is no part {part!r} in this upload", param=f"part_ids[{index}]")
    total = sum(sizes[part] for part in request.part_ids)
    if total != upload.bytes:
        raise InvalidValue(f"the parts have {total} bytes; {upload.bytes} were announced", param="part_ids")
    digest = hashlib.md5(usedforsecurity=False)

    async def content() -> AsyncIterator[bytes]:
        async for piece in _parts(archive).joined(upload.id, request.part_ids):
            digest.update(piece)
            yield piece

    received = await knowledge.files.receive(content())
    try:
        if request.md5 is not None and digest.hexdigest() != request.md5.lower():
            raise InvalidValue(f"the file's md5 is {digest.hexdigest()}, not the one given", param="md5")
        file = await knowledge.files.keep(
            principal, received, upload.filename, upload.purpose, seconds_to_live=upload.seconds
        )
    finally:
        knowledge.files.discard(received)
    upload.status, upload.file = "completed", file_object(file)
    return await _end(http, upload)


async def cancel_upload(http: Request) -> Response:
    upload = await _pending(http)
    upload.status = "cancelled"
    return await _end(http, upload)


async def _end(http: Request, upload: Upload) -> Response:
    archive = runtime_of(http).archive
    await archive.finish(upload.id, msgspec.json.encode(upload), upload.status)
    _parts(archive).remove(upload.id)
    return json_body(upload)


async def _pending(http: Request) -> Upload:
    """Raises NotFound, InvalidValue for an upload that is over."""
    kept: Kept = await runtime_of(http).archive.get(principal_of(http), KIND, http.path_params["upload_id"])
    upload = msgspec.json.decode(kept.body, type=Upload)
    if upload.status != "pending" or upload.expires_at <= time.time():
        state = "expired" if upload.status == "pending" else upload.status
        raise InvalidValue(f"the upload is {state}", param="upload_id")
    return upload


async def _sweep(archive: Archive) -> None:
    """Parts whose upload is gone go too."""
    known = {kept.id for kept in await archive.in_state(KIND, "")}
    for holder in _parts(archive).holders():
        if holder not in known:
            _parts(archive).remove(holder)


def _parts(archive: Archive) -> Parts:
    return Parts(archive.directory / "parts", MOST_PART_BYTES)


WRITING = (400, 404, 408, 413, 429, 503, 507)
UPLOAD = "/v1/uploads/{upload_id}"

UPLOAD_OPERATIONS = (
    Operation(
        "POST",
        "/v1/uploads",
        create_upload,
        "Announce a file in parts",
        Upload,
        CreateUpload,
        WRITING,
        access="user",
    ),
    Operation(
        "POST",
        UPLOAD + "/parts",
        create_upload_part,
        "Send a part of a file",
        UploadPart,
        PartForm,
        WRITING,
        request_media="multipart/form-data",
        access="user",
    ),
    Operation(
        "POST",
        UPLOAD + "/complete",
        complete_upload,
        "Make the parts one file",
        Upload,
        CompleteUpload,
        WRITING,
        access="user",
    ),
    Operation(
        "POST", UPLOAD + "/cancel", cancel_upload, "Forget the parts", Upload, errors=WRITING, access="user"
    ),
)
