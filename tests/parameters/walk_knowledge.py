"""Files, uploads, knowledge bases, their search in /v1/responses, and batches."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.parameters.asking import ITEM
from tests.parameters.walk_sampling import RESPONSES
from tests.parameters.walker import Walker, walks
from tests.serving import CHAT, MULTILINGUAL

FILES, UPLOADS, STORES, BATCHES = "/v1/files", "/v1/uploads", "/v1/vector_stores", "/v1/batches"
STORE = STORES + "/{vector_store_id}"
MOON = b"# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
BREAD = b"# Bread\n\nBread rises because yeast makes gas. It is baked in an oven for an hour.\n"
FEW = {"type": "static", "static": {"max_chunk_size_tokens": 16, "chunk_overlap_tokens": 0}}


def upload(w: Walker, content: bytes = MOON, name: str = "moon.md", purpose: str = "assistants") -> str:
    answer = w.http.post(FILES, files={"file": (name, content)}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def wait(w: Walker, path: str, states: tuple[str, ...] = ("completed",)) -> Any:
    ends_at = time.monotonic() + 60
    while (found := w.get(path))["status"] not in states:
        assert time.monotonic() < ends_at, found
        time.sleep(0.05)
    return found


@contextmanager
def base(w: Walker, **fields: Any) -> Iterator[str]:
    """A knowledge base, for as long as it is walked; its path."""
    id = w.ask(STORES, **fields)["id"]
    try:
        yield f"{STORES}/{id}"
    finally:
        w.http.delete(f"{STORES}/{id}")


@contextmanager
def filled(w: Walker) -> Iterator[str]:
    with base(w, file_ids=None) as path:
        for content, name, about in ((MOON, "moon.md", "space"), (BREAD, "bread.md", "food")):
            file = w.ask(f"{path}/files", file_id=upload(w, content, name), attributes={"about": about})
            wait(w, f"{path}/files/{file['id']}")
        yield path


@walks(FILES, "file", "purpose")
def files(w: Walker) -> None:
    id = upload(w)
    told = w.get(f"{FILES}/{id}")
    assert (told["filename"], told["bytes"], told["purpose"]) == ("moon.md", len(MOON), "assistants")
    assert w.http.get(f"{FILES}/{id}/content").content == MOON
    assert id in [each["id"] for each in w.get(FILES, purpose="assistants")["data"]]
    wrong = w.http.post(FILES, files={"file": ("a.txt", b"a")}, data={"purpose": "training"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "purpose")
    bare = w.http.post(FILES, files={"other": ("a.txt", b"a")}, data={"purpose": "assistants"})
    assert (bare.status_code, bare.json()["error"]["param"]) == (400, "other")


@walks(UPLOADS, "filename", "bytes", "purpose", "mime_type", "expires_after")
@walks("/v1/uploads/{upload_id}/parts", "data")
@walks("/v1/uploads/{upload_id}/complete", "part_ids", "md5")
def uploads(w: Walker) -> None:
    lasting = {"anchor": "created_at", "seconds": 3600}
    begun = w.ask(UPLOADS, bytes=len(MOON), expires_after=lasting)
    assert (begun["filename"], begun["bytes"], begun["purpose"]) == ("a.txt", len(MOON), "assistants")
    path = f"{UPLOADS}/{begun['id']}"
    parts = [
        w.http.post(f"{path}/parts", files={"data": ("part", piece)}).json()["id"]
        for piece in (MOON[:20], MOON[20:])
    ]
    w.refused(f"{path}/complete", "md5", part_ids=parts, md5="0" * 32)
    w.refused(f"{path}/complete", "part_nobody", part_ids=["part_nobody"])
    file = w.ask(f"{path}/complete", part_ids=parts, md5=hashlib.md5(MOON).hexdigest())["file"]
    assert w.http.get(f"{FILES}/{file['id']}/content").content == MOON
    assert file["expires_at"] - file["created_at"] == 3600
    for wrong in ({"filename": ""}, {"bytes": 0}, {"purpose": "training"}, {"mime_type": 5}):
        w.refused(UPLOADS, next(iter(wrong)), **wrong)


@walks(
    STORES, "name", "description", "file_ids", "chunking_strategy", "expires_after", "metadata", "embedder"
)
def stores(w: Walker) -> None:
    after = {"anchor": "last_active_at", "days": 3}
    told: dict[str, Any] = {
        "name": "walked whole",
        "description": "all of it",
        "file_ids": [upload(w)],
        "chunking_strategy": FEW,
        "expires_after": after,
        "metadata": {"walk": "on"},
        "embedder": MULTILINGUAL,
    }
    with base(w, **told) as path:
        found = w.get(path)
        assert {name: found[name] for name in ("name", "description", "expires_after", "metadata")} == {
            name: told[name] for name in ("name", "description", "expires_after", "metadata")
        }
        assert found["file_counts"]["total"] == 1
        (file,) = w.get(f"{path}/files")["data"]
        assert file["chunking_strategy"]["static"] == FEW["static"]
        assert MULTILINGUAL in json.dumps(found)
    w.refused(STORES, "file_nobody", 404, file_ids=["file_nobody"])
    w.refused(STORES, "nobody", 404, embedder="nobody")
    w.refused(STORES, "chunking_strategy.static", chunking_strategy={"type": "static"})


@walks(STORE, "name", "metadata", "expires_after")
def store(w: Walker) -> None:
    with base(w) as path:
        changes = {
            "name": "other",
            "metadata": {"a": "b"},
            "expires_after": {"anchor": "last_active_at", "days": 1},
        }
        found = w.ask(path, **changes)
        assert {name: found[name] for name in changes} == changes
        assert w.http.post(path, json={"expires_after": None}).json()["expires_after"] is None


@walks(STORE + "/search", "query", "filters", "max_num_results", "ranking_options", "timings")
@walks(
    RESPONSES,
    "tools[].vector_store_ids",
    "tools[].filters",
    "tools[].max_num_results",
    "tools[].ranking_options",
    "tools[].ranking_options.ranker",
    "tools[].ranking_options.score_threshold",
)
def search(w: Walker) -> None:
    food = {"type": "eq", "key": "about", "value": "food"}
    with filled(w) as path:
        asked: dict[str, Any] = {"query": "Who walked on the Moon?"}
        first = w.ask(f"{path}/search", **asked)
        assert first["data"][0]["filename"] == "moon.md"
        assert "timings" not in first or first["timings"] is None
        assert w.ask(f"{path}/search", query=["Why does bread rise?"])["data"][0]["filename"] == "bread.md"
        assert w.ask(f"{path}/search", **asked, timings=True)["timings"]
        assert len(w.ask(f"{path}/search", **asked, max_num_results=1)["data"]) == 1
        found = w.ask(f"{path}/search", **asked, filters=food)["data"]
        assert {each["filename"] for each in found} == {"bread.md"}
        strict = {"score_threshold": first["data"][0]["score"]}
        assert len(w.ask(f"{path}/search", **asked, ranking_options=strict)["data"]) == 1
        for wrong in ({"filters": {"type": "is"}}, {"ranking_options": {"ranker": "best"}}):
            w.refused(f"{path}/search", next(iter(wrong)), **asked, **wrong)
        _search_of_responses(w, path.rpartition("/")[2], food)


def _search_of_responses(w: Walker, id: str, food: Any) -> None:
    item = ITEM | {"content": [{"type": "input_text", "text": "Who walked on the Moon?"}]}

    def found(**fields: Any) -> list[Any]:
        tool = {"type": "file_search", "vector_store_ids": [id], **fields}
        shown = ["file_search_call.results"]
        answer = w.ask(RESPONSES, input=[item], tools=[tool], include=shown, max_output_tokens=1)
        assert answer["output"][0]["type"] == "file_search_call"
        return list(answer["output"][0]["results"])

    assert {each["filename"] for each in found()} == {"moon.md", "bread.md"}
    assert {each["filename"] for each in found(filters=food)} == {"bread.md"}
    assert len(found(max_num_results=1)) == 1
    best, least = found()
    assert found(ranking_options={"score_threshold": best["score"]}) == [best] != [least]
    assert found(ranking_options={"ranker": "auto"})
    for wrong in ({"filters": {"type": "is"}}, {"ranking_options": {"ranker": "best"}}):
        tool = {"type": "file_search", "vector_store_ids": [id], **wrong}
        w.refused(RESPONSES, next(iter(wrong)), input=[item], tools=[tool])
    w.refused(RESPONSES, "vector_store_ids", tools=[{"type": "file_search"}])
    nobody = {"type": "file_search", "vector_store_ids": ["vs_nobody"]}
    w.refused(RESPONSES, "vs_nobody", 404, tools=[nobody])


@walks(STORE + "/readers", "readers")
def readers(w: Walker) -> None:
    with base(w) as path:
        shared = w.http.put(f"{path}/readers", json={"readers": ["*"]})
        assert shared.json()["readers"] == w.get(f"{path}/readers")["readers"] == ["*"]
        wrong = w.http.put(f"{path}/readers", json={"readers": ["nobody"]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "readers")


@walks(STORE + "/reindex", "embedder")
def reindex(w: Walker) -> None:
    with filled(w) as path:
        assert w.ask(f"{path}/reindex", embedder=MULTILINGUAL)["documents"] == 2
        assert MULTILINGUAL in json.dumps(w.get(path))
        w.refused(f"{path}/reindex", "nobody", 404, embedder="nobody")


@walks(STORE + "/folders", "path")
def folders(w: Walker) -> None:
    with base(w) as path, TemporaryDirectory() as directory:
        Path(directory, "moon.md").write_bytes(MOON)
        watched = w.http.post(f"{path}/folders", json={"path": directory})
        assert watched.status_code == 200, watched.text
        assert [each["path"] for each in w.get(f"{path}/folders")["data"]] == [directory]
        wrong = w.http.post(f"{path}/folders", json={"path": "somewhere"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "path")


@walks(STORE + "/files", "file_id", "attributes", "chunking_strategy")
@walks(STORE + "/files/{file_id}", "attributes")
def attached(w: Walker) -> None:
    with base(w) as path:
        file = w.ask(f"{path}/files", file_id=upload(w), attributes={"a": 1}, chunking_strategy=FEW)
        assert (file["attributes"], file["chunking_strategy"]["static"]) == ({"a": 1}, FEW["static"])
        changed = w.ask(f"{path}/files/{file['id']}", attributes={"a": 2})
        assert changed["attributes"] == w.get(f"{path}/files/{file['id']}")["attributes"] == {"a": 2}
        w.refused(f"{path}/files", "file_nobody", 404, file_id="file_nobody")


@walks(STORE + "/file_batches", "file_ids", "files", "attributes", "chunking_strategy")
def file_batches(w: Walker) -> None:
    with base(w) as path:
        ids = [upload(w), upload(w, BREAD, "bread.md")]
        batch = w.ask(f"{path}/file_batches", file_ids=ids, attributes={"a": 1}, chunking_strategy=FEW)
        assert wait(w, f"{path}/file_batches/{batch['id']}")["file_counts"]["total"] == 2
        found = w.get(f"{path}/file_batches/{batch['id']}/files")["data"]
        assert [each["attributes"] for each in found] == [{"a": 1}] * 2
        assert [each["chunking_strategy"]["static"] for each in found] == [FEW["static"]] * 2
        own = [{"file_id": upload(w), "attributes": {"a": 2}}]
        batch = w.ask(f"{path}/file_batches", files=own)
        (file,) = w.get(f"{path}/file_batches/{batch['id']}/files")["data"]
        assert file["attributes"] == {"a": 2}
        w.refused(f"{path}/file_batches", "file", files=own, file_ids=ids)


@walks(BATCHES, "input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
def batches(w: Walker) -> None:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 2}
    line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
    asked: dict[str, Any] = {
        "input_file_id": upload(w, json.dumps(line).encode(), "batch.jsonl", "batch"),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"walk": "on"},
        "output_expires_after": {"anchor": "created_at", "seconds": 3600},
    }
    begun = w.ask(BATCHES, **asked)
    assert (begun["endpoint"], begun["metadata"]) == (asked["endpoint"], asked["metadata"])
    done = wait(w, f"{BATCHES}/{begun['id']}", ("completed", "failed"))
    assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    output = w.get(f"{FILES}/{done['output_file_id']}")
    assert output["expires_at"] - output["created_at"] == 3600
    for wrong in (
        {"completion_window": "1h"},
        {"endpoint": "/v1/moderations"},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
    ):
        w.refused(BATCHES, next(iter(wrong)), **asked | wrong)
    w.refused(BATCHES, "file_nobody", 404, **asked | {"input_file_id": "file_nobody"})
