"""What is done to a whole base through the API: putting files in, taking it elsewhere, removing it.

What takes long is iterated, and tells what became of each document; commands print that, screens show it.
Knows no terminal.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import msgspec

from appliance.client.knowledge import KnowledgeClient, files_under
from appliance.errors import HearthError, InvalidValue
from models.errors import ModelError
from models.exported_base import MANIFEST, ExportedBase
from models.region import Extent

BATCH = 500  # documents that are put in by one request
POLL_SECONDS = 0.2


class Outcome(NamedTuple):
    """What became of one document. `reason`: why it failed."""

    name: str
    state: Literal["unchanged", "sent", "failed", "written"]
    reason: str = ""


class Putting:
    """Sends documents and waits until all are read: iterate it once.

    `total` counts all, `sent`, `read`, `unchanged` and `failed` those that have got so far.
    """

    def __init__(self, client: KnowledgeClient, base: str) -> None:
        self._client = client
        self._base = base
        self._loose: dict[str, dict[str, Any]] = {}  # sent, and in no base yet
        self.total = self.sent = self.read = self.unchanged = self.failed = 0

    @property
    def share(self) -> float:
        """How far it is, 0 to 1: sending is one half, reading the other."""
        over = 2 * (self.unchanged + self.failed) + self.sent + self.read
        return min(1.0, over / (2 * self.total)) if self.total else 0.0

    def take_back(self) -> None:
        """After an interruption: delete what was sent and is in no base."""
        for id in list(self._loose):
            with suppress(HearthError):
                self._client.call("DELETE", f"/v1/files/{id}")
            del self._loose[id]

    def _send(self, name: str, content: BinaryIO, **described: Any) -> None:
        file = self._client.upload(name, content)
        self._loose[file["id"]] = {"file_id": file["id"], **described}
        self.sent += 1

    def _put(self) -> str | None:
        """Everything loose into the base; the path of its batch."""
        if not self._loose:
            return None
        place = f"/v1/vector_stores/{self._base}/file_batches"
        batch = self._client.call("POST", place, {"files": list(self._loose.values())})
        self._loose.clear()
        return f"{place}/{batch['id']}"

    def _await(self, path: str) -> Iterator[Outcome]:
        before, failed_before = self.read, self.failed
        while True:
            batch = self._client.call("GET", path)
            counts = batch["file_counts"]
            self.read = before + counts["completed"]
            self.failed = failed_before + counts["failed"] + counts["cancelled"]
            if batch["status"] != "in_progress":
                break
            yield Outcome("", "sent")
            time.sleep(POLL_SECONDS)
        for document in self._client.pages(f"{path}/files", filter="failed") if counts["failed"] else ():
            yield Outcome(document["filename"], "failed", document["last_error"]["message"])


class Adding(Putting):
    """Puts files and folders into a base. A document that is there unchanged is left alone, one that has
    changed is replaced. Raises HearthError for what concerns all of them.
    """

    def __init__(self, client: KnowledgeClient, base: str, paths: Sequence[Path]) -> None:
        super().__init__(client, base)
        self._paths = tuple(paths)

    def __iter__(self) -> Iterator[Outcome]:
        known = {each["attributes"].get("path"): each for each in self._client.documents(self._base)}
        files = list(files_under(self._paths))
        self.total = len(files)
        replaced: list[str] = []
        batches: list[str] = []
        for name, path in files:
            place = str(path.resolve())[-512:]
            old = known.get(place)
            outcome = self._offer(name, path, place, old)
            if outcome.state == "sent" and old is not None:
                replaced.append(old["id"])
            if len(self._loose) == BATCH and (batch := self._put()):
                batches.append(batch)
            yield outcome
        if batch := self._put():
            batches.append(batch)
        for batch in batches:
            yield from self._await(batch)
        for id in replaced:
            self._client.call("DELETE", f"/v1/files/{id}")

    def _offer(self, name: str, path: Path, place: str, old: dict[str, Any] | None) -> Outcome:
        try:
            with path.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                if _is_there(old, sha256):
                    self.unchanged += 1
                    return Outcome(str(path), "unchanged")
                content.seek(0)
                self._send(name, content, attributes={"path": place, "sha256": sha256})
        except OSError as error:
            self.failed += 1
            return Outcome(str(path), "failed", error.strerror or str(error))
        except HearthError as error:
            if error.detail_code == "unavailable":
                raise
            self.failed += 1
            return Outcome(str(path), "failed", error.message)
        return Outcome(str(path), "sent")


class Importing(Putting):
    """Makes a base of a file that `export` wrote. Raises InvalidValue for any other file."""

    def __init__(self, client: KnowledgeClient, file: Path, name: str = "") -> None:
        super().__init__(client, "")
        self._file = file
        self.name = name

    def __iter__(self) -> Iterator[Outcome]:
        try:
            with ExportedBase(Extent.whole(self._file)) as exported:
                yield from self._take(exported)
        except OSError as error:
            raise InvalidValue(f"cannot read {self._file}: {error.strerror or error}") from error
        except ModelError as error:
            raise InvalidValue(error.message) from error

    def _take(self, exported: ExportedBase) -> Iterator[Outcome]:
        about = msgspec.to_builtins(exported.manifest)
        self.name = self.name or about["name"]
        options = {key: about[key] for key in ("description", "metadata", "chunking_strategy")}
        self._base = self._client.create(self.name, **options)["id"]
        self.total = len(about["documents"])
        batches = []
        for document, told in zip(exported.manifest.documents, about["documents"], strict=True):
            described = {key: told[key] for key in ("attributes", "chunking_strategy")}
            with exported.content(document) as content:
                self._send(document.filename, cast(BinaryIO, content), **described)
            if len(self._loose) == BATCH and (batch := self._put()):
                batches.append(batch)
            yield Outcome(document.filename, "sent")
        if batch := self._put():
            batches.append(batch)
        for batch in batches:
            yield from self._await(batch)


class Export:
    """Writes a base's documents, as they were put in, to a zip: iterate it once. `left_out`: those that could
    not be read, or are being read. The file is there when all is in it, or not at all.
    """

    def __init__(self, client: KnowledgeClient, base: dict[str, Any], file: Path) -> None:
        self._client = client
        self._base = base
        self._file = file
        self.total = self.written = self.left_out = 0

    @property
    def share(self) -> float:
        """How far it is, 0 to 1."""
        return self.written / self.total if self.total else 0.0

    def __iter__(self) -> Iterator[Outcome]:
        every = list(self._client.documents(self._base["id"]))
        documents = [each for each in every if each["status"] == "completed"]
        self.total, self.left_out = len(documents), len(every) - len(documents)
        partial = self._file.with_name(self._file.name + ".partial")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(MANIFEST, _manifest(self._base, documents))
                for number, each in enumerate(documents):
                    with archive.open(_member(number), "w", force_zip64=True) as member:
                        self._client.download(each["id"], member)  # type: ignore[arg-type]
                    self.written += 1
                    yield Outcome(each["filename"], "written")
            partial.replace(self._file)
        except OSError as error:
            raise InvalidValue(f"cannot write {self._file}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


class Removed(NamedTuple):
    """How many documents are gone, and how many stay because another base has them too."""

    documents: int
    kept: int


def remove_base(client: KnowledgeClient, base: str) -> Removed:
    """Deletes the base of that id, and its documents' files unless another base has them."""
    documents = [each["id"] for each in client.documents(base)]
    client.call("DELETE", f"/v1/vector_stores/{base}")
    elsewhere = {each["id"] for other in client.bases() for each in client.documents(other["id"])}
    gone = [id for id in documents if id not in elsewhere]
    remove_files(client, gone)
    return Removed(len(gone), len(documents) - len(gone))


def remove_files(client: KnowledgeClient, ids: Sequence[str]) -> None:
    """Deletes these files, and with them the documents of every base."""
    for id in ids:
        client.call("DELETE", f"/v1/files/{id}")


def _is_there(document: dict[str, Any] | None, sha256: str) -> bool:
    """Whether a document of that content has been read."""
    if document is None or document["status"] != "completed":
        return False
    return bool(document["attributes"].get("sha256") == sha256)


def _manifest(base: dict[str, Any], documents: Sequence[dict[str, Any]]) -> str:
    manifest = {
        "format": 1,
        **{key: base[key] for key in ("name", "description", "metadata", "chunking_strategy")},
        "documents": [
            {
                "member": _member(number),
                **{key: each[key] for key in ("filename", "attributes", "chunking_strategy")},
            }
            for number, each in enumerate(documents)
        ],
    }
    return json.dumps(manifest, ensure_ascii=False, indent=1)


def _member(number: int) -> str:
    return f"documents/{number:06}"
