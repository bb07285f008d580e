"""/v1/vector_stores/{id}/folders, which is ours: folders of this machine that a knowledge base follows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.knowledge_replies import Deleted, FolderList, WatchedFolder, watched_folder
from appliance.api.knowledge_schemas import WatchFolder
from appliance.api.vector_stores import base_id
from appliance.errors import InvalidValue, NotFound


async def create_folder(http: Request) -> Response:
    request = await read_request(http, WatchFolder)
    roots = runtime_of(http).settings.access.folder_roots
    await asyncio.to_thread(_check_roots, Path(request.path), roots)
    folder = await runtime_of(http).knowledge.folders.add(
        principal_of(http), base_id(http), Path(request.path)
    )
    return json_body(watched_folder(folder, {}))


def _check_roots(path: Path, roots: Sequence[str]) -> None:
    """Links are followed first: where they lead is what would be read. Raises InvalidValue."""
    real = path.resolve()
    if not any(real.is_relative_to(Path(root).expanduser().resolve()) for root in roots):
        raise InvalidValue(
            f"{path} lies in none of the folders that may be followed: {', '.join(roots) or 'none'} "
            "(access.folder_roots)",
            param="path",
        )


async def list_folders(http: Request) -> Response:
    found = await runtime_of(http).knowledge.folders.list(principal_of(http), base_id(http))
    data: list[WatchedFolder] = [watched_folder(folder, files) for folder, files in found]
    return json_body(FolderList(data=data))


async def delete_folder(http: Request) -> Response:
    sent = http.path_params["folder_id"]
    if not sent.isascii() or not sent.isdigit() or len(sent) > 18:
        raise NotFound(f"this knowledge base watches no folder {sent!r}", param="folder_id")
    await runtime_of(http).knowledge.folders.remove(principal_of(http), base_id(http), int(sent))
    return json_body(Deleted(id=sent, object="vector_store.folder.deleted"))
