"""The client's calls for knowledge bases. What travels is as /v1/files and /v1/vector_stores have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from appliance.client.answer import Note, unheard
from appliance.client.http import Client
from appliance.errors import InvalidValue

PAGE = 100


class KnowledgeClient(Client):
    def __enter__(self) -> KnowledgeClient:
        return self

    def bases(self) -> list[dict[str, Any]]:
        return list(self.pages("/v1/vector_stores"))

    def base(self, name: str) -> dict[str, Any]:
        """By name or id. Raises InvalidValue when there is none, or several."""
        found = [base for base in self.bases() if name in (base["name"], base["id"])]
        if not found:
            raise InvalidValue(f"there is no knowledge base {name!r}; `hearth kb status` lists them")
        if len(found) > 1:
            raise InvalidValue(
                f"several knowledge bases are named {name!r}; say which by its id: "
                + ", ".join(base["id"] for base in found)
            )
        return found[0]

    def create(self, name: str, **options: Any) -> dict[str, Any]:
        """Raises InvalidValue for a name that is taken: the command line tells bases by their names."""
        if any(base["name"] == name for base in self.bases()):
            raise InvalidValue(f"there is a knowledge base {name!r} already")
        return self.call("POST", "/v1/vector_stores", {"name": name, **options})

    def documents(self, base: str, status: str = "") -> Iterator[dict[str, Any]]:
        return self.pages(f"/v1/vector_stores/{base}/files", **({"filter": status} if status else {}))

    def latest_documents(self, base: str) -> list[dict[str, Any]]:
        """The failed, those being read, then the newest: at most a page of each."""
        found: dict[str, dict[str, Any]] = {}
        for status in ("failed", "in_progress", ""):
            words = {"limit": str(PAGE)} | ({"filter": status} if status else {})
            page = self._get(f"/v1/vector_stores/{base}/files?{httpx.QueryParams(words)}")
            for each in page["data"]:
                found.setdefault(each["id"], each)
        return list(found.values())

    def document_text(self, base: str, file: str) -> str:
        """The text that was read out of a document."""
        page = self._get(f"/v1/vector_stores/{base}/files/{file}/content")
        return str(page["data"][0]["text"])

    def folders(self, base: str) -> list[dict[str, Any]]:
        """The folders of the server's machine that a base follows."""
        return list(self._get(f"/v1/vector_stores/{base}/folders")["data"])

    def search(self, base: str, query: str, most: int = 10) -> dict[str, Any]:
        """The passages that answer `query`, with what each stage took."""
        body = {"query": query, "max_num_results": most, "timings": True}
        return self.call("POST", f"/v1/vector_stores/{base}/search", body)

    def upload(self, name: str, content: BinaryIO) -> dict[str, Any]:
        try:
            response = self._http.post(
                "/v1/files", data={"purpose": "assistants"}, files={"file": (name, content)}
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise self._error(response)
        found: dict[str, Any] = response.json()
        return found

    def download(self, file: str, target: BinaryIO) -> None:
        with self._http.stream("GET", f"/v1/files/{file}/content") as response:
            if response.status_code != 200:
                response.read()
                raise self._error(response)
            for piece in response.iter_bytes():
                target.write(piece)

    def stream_cited(
        self,
        model: str,
        messages: Sequence[dict[str, str]],
        base: str,
        *,
        note: Note = unheard,
        **options: Any,
    ) -> Iterator[str | dict[str, Any]]:
        """The answer's text as it comes, and its citations; the server's warnings go to `note`."""
        body = {"model": model, "messages": list(messages), "knowledge": base, **options}
        return self._stream_answer(body, note)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise self._error(response)
        found: dict[str, Any] = response.json()
        return found

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every item of a list that comes in pages, oldest first."""
        after: dict[str, str] = {}
        while True:
            words = httpx.QueryParams({"limit": str(PAGE), "order": "asc", **query, **after})
            page = self._get(f"{path}?{words}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}


def files_under(paths: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Every plain file of the paths and folders, with the name it is to have. Links are not followed."""
    for path in paths:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in found.relative_to(path).parts)
                if found.is_file() and not found.is_symlink() and not hidden:
                    yield found.relative_to(path).as_posix(), found
        else:
            yield path.name, path
