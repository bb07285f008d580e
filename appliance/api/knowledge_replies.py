"""The response bodies of /v1/files and /v1/vector_stores, as openai's own types read them; what is beyond
those types is ours."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.knowledge.retrieve import Candidate
from appliance.knowledge.views import BaseStatus
from appliance.store.rows import Attributes, Batch, Counts, Document, Folder, FolderFile, StoredFile


class FileObject(Struct, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Struct, kw_only=True):
    id: str
    object: str
    deleted: bool = True


class FileCounts(Struct, kw_only=True):
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Expiry(Struct, kw_only=True):
    anchor: Literal["last_active_at"] = "last_active_at"
    days: int


class VectorStore(Struct, kw_only=True):
    """`embedder`, `chunking_strategy` and `warnings` are ours."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    description: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: Expiry | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]
    embedder: str
    chunking_strategy: StaticStrategy
    warnings: list[str] = []


class VectorStoreList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Sizes(Struct, kw_only=True):
    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


class StaticStrategy(Struct, kw_only=True):
    type: Literal["static"] = "static"
    static: Sizes


class LastError(Struct, kw_only=True):
    code: str
    message: str


class VectorStoreFile(Struct, kw_only=True):
    """`filename` and `warnings` are ours."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: str
    last_error: LastError | None
    chunking_strategy: StaticStrategy
    attributes: Attributes
    filename: str
    warnings: list[str] = []


class VectorStoreFileList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[VectorStoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileBatch(Struct, kw_only=True):
    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts
    warnings: list[str] = []


class TextContent(Struct, kw_only=True):
    type: Literal["text"] = "text"
    text: str


class FileContentPage(Struct, kw_only=True):
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextContent]
    has_more: bool = False
    next_page: None = None


class Place(Struct, kw_only=True):
    """Ours: where the passage stands in the document's text, in characters; `page` 0 means none."""

    begins: int
    ends: int
    page: int
    heading: str


class SearchResult(Struct, kw_only=True):
    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[TextContent]
    place: Place


class SearchPage(Struct, kw_only=True):
    """`relevance`, `timings` and `warnings` are ours."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool = False
    next_page: None = None
    relevance: float
    timings: dict[str, float] | None = None
    warnings: list[str] = []


class Reindexed(Struct, kw_only=True):
    id: str
    object: Literal["vector_store.reindexed"] = "vector_store.reindexed"
    documents: int


class FolderProblem(Struct, kw_only=True):
    path: str
    problem: str


class WatchedFolder(Struct, kw_only=True):
    """`files` that have become documents; `problems` of those that could not."""

    id: str
    object: Literal["vector_store.folder"] = "vector_store.folder"
    vector_store_id: str
    path: str
    files: int
    problems: list[FolderProblem]


class FolderList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[WatchedFolder]


def watched_folder(folder: Folder, files: dict[str, FolderFile]) -> WatchedFolder:
    return WatchedFolder(
        id=str(folder.id),
        vector_store_id=folder.base,
        path=folder.path,
        files=sum(bool(file.file) for file in files.values()),
        problems=[
            FolderProblem(path=file.path, problem=file.problem) for file in files.values() if file.problem
        ],
    )


def file_object(file: StoredFile) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.name,
        purpose=file.purpose,
    )


def file_counts(counts: Counts) -> FileCounts:
    return FileCounts(
        in_progress=counts.in_progress,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        total=counts.total,
    )


def vector_store(status: BaseStatus, warnings: list[str] | None = None) -> VectorStore:
    base = status.base
    state: Literal["expired", "in_progress", "completed"] = "completed"
    if status.has_expired:
        state = "expired"
    elif status.counts.in_progress:
        state = "in_progress"
    return VectorStore(
        id=base.id,
        created_at=int(base.created_at),
        name=base.name,
        description=base.description,
        usage_bytes=status.usage_bytes,
        file_counts=file_counts(status.counts),
        status=state,
        expires_after=None if base.expires_days is None else Expiry(days=base.expires_days),
        expires_at=None if status.expires_at is None else int(status.expires_at),
        last_active_at=int(base.active_at),
        metadata=base.metadata,
        embedder=base.edition.embedder,
        chunking_strategy=_strategy(base.chunk_tokens, base.overlap_tokens),
        warnings=warnings or [],
    )


def vector_store_file(document: Document, warnings: list[str] | None = None) -> VectorStoreFile:
    failed = document.status == "failed"
    return VectorStoreFile(
        id=document.file,
        usage_bytes=document.text_bytes,
        created_at=int(document.created_at),
        vector_store_id=document.base,
        status=document.status,
        last_error=LastError(code=document.error_code, message=document.error_message) if failed else None,
        chunking_strategy=_strategy(document.chunk_tokens, document.overlap_tokens),
        attributes=document.attributes,
        filename=document.name,
        warnings=warnings or [],
    )


def file_batch(batch: Batch, counts: Counts, warnings: list[str] | None = None) -> FileBatch:
    status: Literal["in_progress", "completed", "cancelled", "failed"] = "completed"
    if counts.in_progress:
        status = "in_progress"
    elif counts.cancelled:
        status = "cancelled"
    elif counts.failed and not counts.completed:
        status = "failed"
    return FileBatch(
        id=batch.id,
        created_at=int(batch.created_at),
        vector_store_id=batch.base,
        status=status,
        file_counts=file_counts(counts),
        warnings=warnings or [],
    )


def search_result(candidate: Candidate) -> SearchResult:
    hit = candidate.hit
    return SearchResult(
        file_id=hit.file,
        filename=hit.name,
        score=round(candidate.score, 6),
        attributes=hit.attributes,
        content=[TextContent(text=hit.chunk.text)],
        place=Place(
            begins=hit.chunk.begins, ends=hit.chunk.ends, page=hit.chunk.page, heading=hit.chunk.heading
        ),
    )


def _strategy(tokens: int, overlap: int) -> StaticStrategy:
    return StaticStrategy(static=Sizes(max_chunk_size_tokens=tokens, chunk_overlap_tokens=overlap))
