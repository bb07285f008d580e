"""/v1/vector_stores/{id}/files and /file_batches: what is in a knowledge base, and what became of it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body, noted
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.knowledge_replies import (
    Deleted,
    FileContentPage,
    TextContent,
    VectorStoreFileList,
    file_batch,
    vector_store_file,
)
from appliance.api.knowledge_schemas import (
    AttachFile,
    CreateFileBatch,
    ListDocumentsQuery,
    UpdateAttributes,
)
from appliance.api.query import read_query
from appliance.api.vector_stores import base_id, chunking_of, page_of
from appliance.errors import InvalidValue, MissingParameter
from appliance.knowledge.views import NewDocument
from appliance.store.rows import Document


async def create_vector_store_file(http: Request) -> Response:
    request = await read_request(http, AttachFile)
    new, warnings = await _new_documents(http, [request])
    (document,), _ = await runtime_of(http).knowledge.documents.add(principal_of(http), base_id(http), new)
    return noted(vector_store_file(document, warnings), warnings)


async def list_vector_store_files(http: Request) -> Response:
    return await _list(http, "")


async def get_vector_store_file(http: Request) -> Response:
    document = await runtime_of(http).knowledge.documents.get(
        principal_of(http), base_id(http), _file_id(http)
    )
    return json_body(vector_store_file(document))


async def update_vector_store_file(http: Request) -> Response:
    request = await read_request(http, UpdateAttributes)
    document = await runtime_of(http).knowledge.documents.set_attributes(
        principal_of(http), base_id(http), _file_id(http), request.attributes or {}
    )
    return json_body(vector_store_file(document))


async def delete_vector_store_file(http: Request) -> Response:
    await runtime_of(http).knowledge.documents.remove(principal_of(http), base_id(http), _file_id(http))
    return json_body(Deleted(id=_file_id(http), object="vector_store.file.deleted"))


async def get_vector_store_file_content(http: Request) -> Response:
    document, text = await runtime_of(http).knowledge.documents.text(
        principal_of(http), base_id(http), _file_id(http)
    )
    if document.status != "completed":
        raise InvalidValue(f"the file {document.file} has no text: it is {document.status}", param="file_id")
    return json_body(FileContentPage(data=[TextContent(text=text)]))


# Batches


async def create_file_batch(http: Request) -> Response:
    request = await read_request(http, CreateFileBatch)
    if (request.files is None) == (request.file_ids is None):
        raise MissingParameter("give either file_ids or files", param="file_ids")
    if request.files is not None:
        if request.attributes is not None or request.chunking_strategy is not None:
            raise InvalidValue(
                "with `files`, attributes and chunking_strategy are given for each of them", param="files"
            )
        wanted = request.files
    else:
        wanted = [
            AttachFile(file_id=id, attributes=request.attributes, chunking_strategy=request.chunking_strategy)
            for id in request.file_ids or ()
        ]
    new, warnings = await _new_documents(http, wanted)
    knowledge, principal = runtime_of(http).knowledge, principal_of(http)
    _, batch = await knowledge.documents.add(principal, base_id(http), new, batch=True)
    assert batch is not None
    _, counts = await knowledge.documents.batch(principal, base_id(http), batch.id)
    return noted(file_batch(batch, counts, warnings), warnings)


async def get_file_batch(http: Request) -> Response:
    batch, counts = await runtime_of(http).knowledge.documents.batch(
        principal_of(http), base_id(http), _batch_id(http)
    )
    return json_body(file_batch(batch, counts))


async def cancel_file_batch(http: Request) -> Response:
    batch, counts = await runtime_of(http).knowledge.documents.cancel_batch(
        principal_of(http), base_id(http), _batch_id(http)
    )
    return json_body(file_batch(batch, counts))


async def list_file_batch_files(http: Request) -> Response:
    return await _list(http, _batch_id(http))


async def _list(http: Request, batch: str) -> Response:
    query = read_query(http, ListDocumentsQuery)
    found: list[Document]
    found, has_more = await runtime_of(http).knowledge.documents.list(
        principal_of(http), base_id(http), page_of(query), status=query.filter or "", batch=batch
    )
    return json_body(
        VectorStoreFileList(
            data=[vector_store_file(document) for document in found],
            first_id=found[0].file if found else None,
            last_id=found[-1].file if found else None,
            has_more=has_more,
        )
    )


async def _new_documents(http: Request, wanted: list[AttachFile]) -> tuple[list[NewDocument], list[str]]:
    """What to add, with sizes that the base's embedder takes, and the warnings about those."""
    knowledge = runtime_of(http).knowledge
    base = (await knowledge.bases.status(principal_of(http), base_id(http))).base
    new: list[NewDocument] = []
    warnings: dict[str, None] = {}
    for item in wanted:
        chunking, said = chunking_of(knowledge, item.chunking_strategy, base)
        warnings |= dict.fromkeys(said)
        new.append(NewDocument(item.file_id, item.attributes or {}, chunking))
    return new, list(warnings)


def _file_id(http: Request) -> str:
    id: str = http.path_params["file_id"]
    return id


def _batch_id(http: Request) -> str:
    id: str = http.path_params["batch_id"]
    return id
