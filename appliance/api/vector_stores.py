"""/v1/vector_stores: knowledge bases, and searching them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body, noted
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.filters import filter_of
from appliance.api.knowledge_replies import (
    Deleted,
    Reindexed,
    SearchPage,
    VectorStoreList,
    search_result,
    vector_store,
)
from appliance.api.knowledge_schemas import (
    SEARCH_RULES,
    ChunkingStrategy,
    CreateVectorStore,
    ExpiresAfter,
    ListQuery,
    RankingOptions,
    ReindexVectorStore,
    SearchVectorStore,
    UpdateVectorStore,
)
from appliance.api.query import read_query
from appliance.api.rules import apply
from appliance.api.sse import unless_client_leaves
from appliance.errors import HearthError, InvalidValue, MissingParameter
from appliance.knowledge.service import Knowledge
from appliance.knowledge.views import Chunking, NewDocument, check_chunking
from appliance.store.rows import Base, Page

DEFAULT_RESULTS = 10
RANKERS = {None: None, "auto": None, "none": False, "default-2024-11-15": True}


async def create_vector_store(http: Request) -> Response:
    request = await read_request(http, CreateVectorStore)
    knowledge, principal = runtime_of(http).knowledge, principal_of(http)
    chunking, warnings = chunking_of(knowledge, request.chunking_strategy)
    for id in request.file_ids or ():
        await knowledge.files.get(principal, id)
    base = await knowledge.bases.create(
        principal,
        request.name or "",
        description=request.description or "",
        metadata=request.metadata,
        expires_days=request.expires_after.days if request.expires_after else None,
        chunking=chunking,
        embedder=request.embedder,
    )
    if request.file_ids:
        new = [NewDocument(id) for id in dict.fromkeys(request.file_ids)]
        try:
            await knowledge.documents.add(principal, base.id, new)
        except HearthError:
            await knowledge.bases.remove(principal, base.id)  # all or nothing
            raise
    return noted(vector_store(await knowledge.bases.status(principal, base.id), warnings), warnings)


async def list_vector_stores(http: Request) -> Response:
    page = page_of(read_query(http, ListQuery))
    found, has_more = await runtime_of(http).knowledge.bases.list(principal_of(http), page)
    return json_body(
        VectorStoreList(
            data=[vector_store(status) for status in found],
            first_id=found[0].base.id if found else None,
            last_id=found[-1].base.id if found else None,
            has_more=has_more,
        )
    )


async def get_vector_store(http: Request) -> Response:
    status = await runtime_of(http).knowledge.bases.status(principal_of(http), base_id(http))
    return json_body(vector_store(status))


async def update_vector_store(http: Request) -> Response:
    request = await read_request(http, UpdateVectorStore)
    expiry = request.expires_after
    status = await runtime_of(http).knowledge.bases.update(
        principal_of(http),
        base_id(http),
        name=request.name,
        metadata=request.metadata,
        expires_days=expiry.days if isinstance(expiry, ExpiresAfter) else None,
        keeps_expiry=expiry == "keep",
    )
    return json_body(vector_store(status))


async def delete_vector_store(http: Request) -> Response:
    await runtime_of(http).knowledge.bases.remove(principal_of(http), base_id(http))
    return json_body(Deleted(id=base_id(http), object="vector_store.deleted"))


async def search_vector_store(http: Request) -> Response:
    request = await read_request(http, SearchVectorStore)
    options = request.ranking_options or RankingOptions()
    if options.ranker not in RANKERS:
        known = ", ".join(name for name in RANKERS if name)
        raise InvalidValue(
            f"ranking_options.ranker is {options.ranker!r}; there is: {known}", param="ranking_options.ranker"
        )
    queries = [request.query] if isinstance(request.query, str) else request.query
    answer = await unless_client_leaves(
        http,
        runtime_of(http).knowledge.search(
            principal_of(http),
            base_id(http),
            queries,
            request.max_num_results or DEFAULT_RESULTS,
            filter=None if request.filters is None else filter_of(request.filters),
            rerank=RANKERS[options.ranker],
        ),
    )
    warnings = [*apply(request, SEARCH_RULES), *answer.warnings]
    least = options.score_threshold or 0.0
    page = SearchPage(
        search_query=queries,
        data=[search_result(found) for found in answer.candidates if found.score >= least],
        relevance=round(answer.relevance, 6),
        timings=answer.seconds if request.timings else None,
        warnings=warnings,
    )
    return noted(page, warnings)


async def reindex_vector_store(http: Request) -> Response:
    request = await read_request(http, ReindexVectorStore)
    count = await runtime_of(http).knowledge.reindex(principal_of(http), base_id(http), request.embedder)
    return json_body(Reindexed(id=base_id(http), documents=count))


# What the files of a store share


def base_id(http: Request) -> str:
    id: str = http.path_params["vector_store_id"]
    return id


def page_of(query: ListQuery) -> Page:
    return Page(limit=query.limit, order=query.order, after=query.after or "", before=query.before or "")


def chunking_of(
    knowledge: Knowledge, strategy: ChunkingStrategy | None, base: Base | None = None
) -> tuple[Chunking | None, list[str]]:
    """The sizes asked for, and a warning where the embedder takes less. None: the base's, or the server's."""
    if strategy is None or strategy.type == "auto":
        if strategy is not None and strategy.static is not None:
            raise InvalidValue(
                "chunking_strategy.static goes with type 'static'", param="chunking_strategy.static"
            )
        return None, []
    if strategy.static is None:
        raise MissingParameter(
            "the parameter 'chunking_strategy.static' is required", param="chunking_strategy.static"
        )
    tokens, overlap = strategy.static.max_chunk_size_tokens, strategy.static.chunk_overlap_tokens
    check_chunking(tokens, overlap)
    most = knowledge.bases.most_chunk_tokens(base)
    if tokens <= most:
        return Chunking(tokens, overlap), []
    cut = Chunking(most, min(overlap, most // 2))
    warning = (
        f"chunks have at most {cut.tokens} tokens, repeating {cut.overlap}, not {tokens} and {overlap}: "
        "the embedder takes no more"
    )
    return cut, [warning]
