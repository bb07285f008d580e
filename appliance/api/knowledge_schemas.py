"""The request bodies and query parameters of /v1/files and /v1/vector_stores, as openai's SDK sends them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.rules import Rule, is_empty
from appliance.api.schemas import Metadata

Name = Annotated[str, Meta(max_length=256)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
AttributeText = Annotated[str, Meta(max_length=512)]
AttributeName = Annotated[str, Meta(min_length=1, max_length=64)]
AttributeNumber = Annotated[float, Meta(ge=-1e300, le=1e300)]
Attributes = Annotated[dict[AttributeName, AttributeText | bool | AttributeNumber], Meta(max_length=16)]
QueryText = Annotated[str, Meta(min_length=1, max_length=16_384)]
Order = Literal["asc", "desc"]
DocumentStatus = Literal["in_progress", "completed", "failed", "cancelled"]
Purpose = Literal["assistants", "batch", "vision", "user_data", "evals"]

MAX_FILES = 2000


class ChunkSizes(Struct, forbid_unknown_fields=True, kw_only=True):
    max_chunk_size_tokens: Annotated[int, Meta(ge=16, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)]


class ChunkingStrategy(Struct, forbid_unknown_fields=True, kw_only=True):
    """`auto` is this server's own choice; `static` needs `static`."""

    type: Literal["auto", "static"]
    static: ChunkSizes | None = None


class ExpiresAfter(Struct, forbid_unknown_fields=True, kw_only=True):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class CreateVectorStore(Struct, forbid_unknown_fields=True, kw_only=True):
    """`embedder` is ours: the embedding model to use."""

    name: Name | None = None
    description: Annotated[str, Meta(max_length=512)] | None = None
    file_ids: Annotated[list[Id], Meta(max_length=MAX_FILES)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None
    embedder: Name | None = None


class UpdateVectorStore(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is left out stays; `expires_after: null` takes the expiry away."""

    name: Name | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | Literal["keep"] | None = "keep"


class RankingOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    ranker: Annotated[str, Meta(max_length=64)] | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class SearchVectorStore(Struct, forbid_unknown_fields=True, kw_only=True):
    """`timings` is ours: tell what each stage took."""

    query: QueryText | Annotated[list[QueryText], Meta(min_length=1, max_length=8)]
    filters: Any = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None
    timings: bool | None = None


SEARCH_RULES = (Rule("rewrite_query", is_empty, "questions are searched as they stand", refuses=False),)


class ReindexVectorStore(Struct, forbid_unknown_fields=True, kw_only=True):
    """Ours: make every chunk and vector anew, with another embedder if one is named."""

    embedder: Name | None = None


class WatchFolder(Struct, forbid_unknown_fields=True, kw_only=True):
    """An absolute path on the machine that serves."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]


class AttachFile(Struct, forbid_unknown_fields=True, kw_only=True):
    file_id: Id
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class UpdateAttributes(Struct, forbid_unknown_fields=True, kw_only=True):
    attributes: Attributes | None


class CreateFileBatch(Struct, forbid_unknown_fields=True, kw_only=True):
    """Either `file_ids`, sharing attributes and chunking, or `files` with their own."""

    file_ids: Annotated[list[Id], Meta(min_length=1, max_length=MAX_FILES)] | None = None
    files: Annotated[list[AttachFile], Meta(min_length=1, max_length=MAX_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class ListQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "desc"
    after: Id | None = None
    before: Id | None = None


class ListDocumentsQuery(ListQuery, kw_only=True):
    filter: DocumentStatus | None = None


class ListFilesQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Order = "desc"
    after: Id | None = None
    purpose: Name | None = None


class UploadForm(Struct, kw_only=True):
    """The form of POST /v1/files; `file` is a part with a file name."""

    file: Any
    purpose: Purpose
