"""What the tables hold, as frozen records.

Times are Unix seconds; places in a text are characters; `page` 0 means that the format has no pages.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

DocumentStatus = Literal["in_progress", "completed", "cancelled", "failed"]
ErrorCode = Literal["", "server_error", "unsupported_file", "invalid_file"]
Order = Literal["asc", "desc"]
AttributeValue = str | float | bool
Attributes = dict[str, AttributeValue]


class Page(Struct, frozen=True, kw_only=True):
    """Which part of a list: `limit` entries after, or right before, the entry with that id."""

    limit: int
    order: Order = "desc"
    after: str = ""
    before: str = ""


class StoredFile(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    name: str
    purpose: str
    bytes: int
    sha256: str
    created_at: float
    expires_at: float | None


class Edition(Struct, frozen=True, kw_only=True):
    """All chunks of a base under one embedder. `graph_*` describe the saved graph file, if there is one."""

    id: int
    base: str
    embedder: str
    fingerprint: str
    dimensions: int
    generation: int
    graph_generation: int
    graph_digest: str


class Base(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    name: str
    description: str
    metadata: dict[str, str]
    created_at: float
    active_at: float
    expires_days: int | None
    chunk_tokens: int
    overlap_tokens: int
    edition: Edition


class Counts(Struct, frozen=True, kw_only=True):
    """Documents by status."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


class Document(Struct, frozen=True, kw_only=True):
    """A file in a base. `name` and `bytes` are the file's; `text_bytes` is what its text takes; the file
    `replaces` goes once this one has been read."""

    id: int
    base: str
    file: str
    name: str
    bytes: int
    batch: str
    status: DocumentStatus
    error_code: ErrorCode
    error_message: str
    attributes: Attributes
    chunk_tokens: int
    overlap_tokens: int
    text_bytes: int
    created_at: float
    replaces: str


class Batch(Struct, frozen=True, kw_only=True):
    id: str
    base: str
    created_at: float


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of a document: its characters [begins, ends), page and path of headings."""

    begins: int
    ends: int
    page: int
    heading: str
    text: str


class Hit(Struct, frozen=True, kw_only=True):
    """A chunk that was found, with the document it stands in."""

    id: int
    document: int
    file: str
    name: str
    attributes: Attributes
    chunk: Chunk


class Folder(Struct, frozen=True, kw_only=True):
    id: int
    base: str
    path: str


class FolderFile(Struct, frozen=True, kw_only=True):
    """What a watched folder's file was when last seen. `file` is "" while it could not be taken in."""

    path: str
    sha256: str
    file: str
    problem: str
