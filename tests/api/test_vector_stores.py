"""Files and knowledge bases through the real openai SDK, polling helpers included."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import psutil
import pytest

from appliance.server import FILE_READERS
from tests.serving import EMBED, Served

WATER = "# Water\n\nThe boiling point of water at sea level is 100 degrees Celsius.\n"
MOON = "# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
BREAD = "# Bread\n\nKnead flour, water, yeast and salt, and let the dough rise for two hours.\n"


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    server.wait_ready()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def upload(sdk: openai.OpenAI, name: str, content: str | bytes) -> openai.types.FileObject:
    raw = content.encode() if isinstance(content, str) else content
    return sdk.files.create(file=(name, io.BytesIO(raw)), purpose="assistants")


@pytest.fixture(scope="module")
def store(sdk: openai.OpenAI) -> Iterator[openai.types.VectorStore]:
    """A base with three documents, made the way the SDK's own helper does it."""
    made = sdk.vector_stores.create(name="facts", metadata={"kind": "test"}, extra_body={"embedder": EMBED})
    batch = sdk.vector_stores.file_batches.upload_and_poll(
        made.id,
        files=[(name, text.encode()) for name, text in (("water.md", WATER), ("moon.md", MOON))],
        poll_interval_ms=50,
    )
    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.total) == (2, 2)
    file = upload(sdk, "bread.md", BREAD)
    added = sdk.vector_stores.files.create_and_poll(
        file.id, vector_store_id=made.id, attributes={"kitchen": True, "rank": 3.0}, poll_interval_ms=50
    )
    assert added.status == "completed"
    assert added.last_error is None
    yield sdk.vector_stores.retrieve(made.id)
    assert sdk.vector_stores.delete(made.id).deleted


def test_many_slow_readers_take_few_threads(server: Served, sdk: openai.OpenAI) -> None:
    """Threads that read for them would take turns with the event loop, and all others would wait."""
    size, where = 1_000_000, urlsplit(server.url)
    file = upload(sdk, "large.bin", b"x" * size)
    gateway = psutil.Process(server.process.pid)
    before = most = gateway.num_threads()
    readers = [socket.create_connection((where.hostname or "", where.port or 0), 30) for _ in range(80)]
    try:
        for reader in readers:
            reader.sendall(f"GET /v1/files/{file.id}/content HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        for reader in readers:
            received = 0
            while received < size:
                received += len(reader.recv(65_536))
                most = max(most, gateway.num_threads())
    finally:
        for reader in readers:
            reader.close()
    others = min(32, (os.cpu_count() or 1) + 4)  # of asyncio.to_thread
    assert most - before <= FILE_READERS + others


def test_a_file_goes_in_and_comes_out(sdk: openai.OpenAI) -> None:
    file = upload(sdk, "../../etc/note.txt", "some words")
    assert (file.filename, file.bytes, file.purpose) == ("note.txt", 10, "assistants")
    assert sdk.files.retrieve(file.id) == file
    assert sdk.files.content(file.id).read() == b"some words"
    assert file.id in [each.id for each in sdk.files.list(purpose="assistants")]
    assert file.id not in [each.id for each in sdk.files.list(purpose="batch")]
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        sdk.files.content(file.id)


def test_files_are_listed_page_by_page(sdk: openai.OpenAI) -> None:
    files = [upload(sdk, f"{n}.txt", f"file {n}") for n in range(5)]
    page = sdk.files.list(limit=2, order="asc", after=files[0].id)
    assert [file.id for file in page.data] == [file.id for file in files[1:3]]
    ids = [file.id for file in sdk.files.list(limit=2, order="desc")]
    assert [id for id in ids if id in {file.id for file in files}] == [file.id for file in reversed(files)]
    for file in files:
        sdk.files.delete(file.id)


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ({"purpose": (None, "assistants")}, "file"),
        ({"file": ("a.txt", b"x")}, "purpose"),
        ({"file": ("a.txt", b"x"), "purpose": (None, "evil")}, "purpose"),
        ({"file": ("a.txt", b""), "purpose": (None, "assistants")}, "file"),
        ({"file": ("a.txt", b"x"), "purpose": (None, "assistants"), "colour": (None, "red")}, "colour"),
    ],
)
def test_a_wrong_form_is_told(server: Served, parts: dict[str, object], param: str) -> None:
    response = server.http.post("/v1/files", files=parts)  # type: ignore[arg-type]
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_what_is_no_form_is_told(server: Served) -> None:
    assert server.http.post("/v1/files", json={}).status_code == 400
    broken = server.http.post(
        "/v1/files", content=b"--x\r\nnonsense", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert broken.status_code == 400


def test_a_store_is_described(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    assert (store.name, store.status, store.metadata) == ("facts", "completed", {"kind": "test"})
    assert store.file_counts.completed == store.file_counts.total == 3
    assert store.usage_bytes > 0
    assert store.id in [each.id for each in sdk.vector_stores.list(limit=1)]


def test_a_search_finds_what_answers(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    page = sdk.vector_stores.search(store.id, query="Who was the first man on the Moon?")
    best = page.data[0]
    assert best.filename == "moon.md"
    assert "Armstrong" in best.content[0].text
    assert 0 < best.score <= 1
    assert [each.score for each in page.data] == sorted((each.score for each in page.data), reverse=True)
    several = sdk.vector_stores.search(store.id, query=["boiling water", "dough"], max_num_results=2)
    assert {each.filename for each in several.data} == {"water.md", "bread.md"}


def test_a_search_tells_its_place_relevance_and_timings(
    server: Served, store: openai.types.VectorStore
) -> None:
    body = {"query": "At which temperature does water boil?", "timings": True, "max_num_results": 1}
    answer = server.http.post(f"/v1/vector_stores/{store.id}/search", json=body).json()
    place = answer["data"][0]["place"]
    text = server.http.get(
        f"/v1/vector_stores/{store.id}/files/{answer['data'][0]['file_id']}/content"
    ).json()
    whole = text["data"][0]["text"]
    assert whole[place["begins"] : place["ends"]] == answer["data"][0]["content"][0]["text"]
    assert place["heading"] == "Water"
    assert {"embedding", "words", "vectors", "feedback", "texts"} <= answer["timings"].keys()
    other = {"query": "Which parliament passed the fishing quota of 1987?"}
    irrelevant = server.http.post(f"/v1/vector_stores/{store.id}/search", json=other).json()
    assert irrelevant["relevance"] < 0.55 < answer["relevance"]


def test_a_search_is_filtered(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    def names(filters: object, **options: object) -> set[str]:
        page = sdk.vector_stores.search(store.id, query="water", filters=filters, **options)  # type: ignore[arg-type]
        return {each.filename for each in page.data}

    assert names({"type": "eq", "key": "kitchen", "value": True}) == {"bread.md"}
    assert names({"type": "ne", "key": "kitchen", "value": True}) == {"water.md", "moon.md"}
    assert names({"type": "gte", "key": "rank", "value": 3}) == {"bread.md"}
    assert names({"type": "in", "key": "rank", "value": [1, 2]}) == set()
    both = [{"type": "gt", "key": "rank", "value": 1}, {"type": "eq", "key": "kitchen", "value": False}]
    assert names({"type": "and", "filters": both}) == set()
    assert names({"type": "or", "filters": both}) == {"bread.md"}
    assert names(None, ranking_options={"score_threshold": 1.0}) == set()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "filters": {"type": "like", "key": "a", "value": 1}}, "filters.type"),
        ({"query": "x", "filters": {"type": "and", "filters": []}}, "filters.filters"),
        ({"query": "x", "filters": {"type": "eq", "key": "a"}}, "filters.value"),
        ({"query": "x", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
        ({"query": "x", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_search_is_told(
    server: Served, store: openai.types.VectorStore, body: dict[str, object], param: str
) -> None:
    response = server.http.post(f"/v1/vector_stores/{store.id}/search", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_file_that_cannot_be_read_fails_with_the_reason(
    sdk: openai.OpenAI, store: openai.types.VectorStore
) -> None:
    bad = upload(sdk, "broken.pdf", b"%PDF-1.4 nothing more")
    failed = sdk.vector_stores.files.create_and_poll(bad.id, vector_store_id=store.id, poll_interval_ms=50)
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert failed.last_error.code == "invalid_file"
    assert "PDF" in failed.last_error.message
    listed = sdk.vector_stores.files.list(store.id, filter="failed")
    assert [each.id for each in listed] == [bad.id]
    sdk.vector_stores.files.delete(bad.id, vector_store_id=store.id)
    assert not list(sdk.vector_stores.files.list(store.id, filter="failed"))
    sdk.files.delete(bad.id)


def test_a_removed_file_is_not_found_any_more(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    file = upload(sdk, "rare.txt", "The zyzzyva is a weevil.")
    sdk.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=50)
    assert sdk.vector_stores.search(store.id, query="zyzzyva").data[0].file_id == file.id
    sdk.files.delete(file.id)  # takes it out of every base, too
    found = sdk.vector_stores.search(store.id, query="zyzzyva").data
    assert file.id not in [each.file_id for each in found]
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.files.retrieve(file.id, vector_store_id=store.id)


def test_attributes_change(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    (moon,) = [each for each in sdk.vector_stores.files.list(store.id) if each.attributes == {}][:1]
    changed = sdk.vector_stores.files.update(moon.id, vector_store_id=store.id, attributes={"sky": "high"})
    assert changed.attributes == {"sky": "high"}
    sdk.vector_stores.files.update(moon.id, vector_store_id=store.id, attributes={})


def test_contents_are_given_back(sdk: openai.OpenAI, store: openai.types.VectorStore) -> None:
    texts = [
        sdk.vector_stores.files.content(each.id, vector_store_id=store.id).data[0].text
        for each in sdk.vector_stores.files.list(store.id)
    ]
    assert any("Armstrong" in (text or "") for text in texts)


def test_a_store_changes_and_expires(sdk: openai.OpenAI) -> None:
    made = sdk.vector_stores.create(name="old", expires_after={"anchor": "last_active_at", "days": 7})
    assert made.expires_after is not None
    assert made.expires_at is not None
    changed = sdk.vector_stores.update(made.id, name="new", metadata={"a": "b"})
    assert (changed.name, changed.metadata) == ("new", {"a": "b"})
    assert changed.expires_after is not None
    assert sdk.vector_stores.update(made.id, expires_after=None).expires_after is None
    assert sdk.vector_stores.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.retrieve(made.id)


def test_chunk_sizes_are_taken_and_what_is_too_large_is_told(sdk: openai.OpenAI, server: Served) -> None:
    file = upload(sdk, "long.txt", " ".join(f"Sentence number {n} is here." for n in range(200)))
    made = sdk.vector_stores.create(name="sizes", extra_body={"embedder": EMBED})
    small = sdk.vector_stores.files.create_and_poll(
        file.id,
        vector_store_id=made.id,
        chunking_strategy={
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20},
        },
        poll_interval_ms=50,
    )
    assert small.status == "completed"
    assert small.chunking_strategy is not None
    assert small.chunking_strategy.type == "static"
    assert small.chunking_strategy.static.max_chunk_size_tokens == 100
    found = sdk.vector_stores.search(made.id, query="sentence number 150", max_num_results=50).data
    assert len(found) > 10
    again = upload(sdk, "long2.txt", "short")
    response = server.http.post(
        f"/v1/vector_stores/{made.id}/files",
        json={
            "file_id": again.id,
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 4000, "chunk_overlap_tokens": 400},
            },
        },
    )
    assert "the embedder takes no more" in response.headers["x-hearth-warning"]
    assert response.json()["chunking_strategy"]["static"]["max_chunk_size_tokens"] < 4000
    wrong = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 60}}
    refused = server.http.post("/v1/vector_stores", json={"chunking_strategy": wrong})
    assert refused.status_code == 400
    sdk.vector_stores.delete(made.id)


def test_a_batch_can_be_cancelled(sdk: openai.OpenAI) -> None:
    files = [upload(sdk, f"{n}.txt", f"text {n}. " * 2000) for n in range(4)]
    made = sdk.vector_stores.create(name="batch", extra_body={"embedder": EMBED})
    batch = sdk.vector_stores.file_batches.create(
        made.id, files=[{"file_id": file.id, "attributes": {"n": float(n)}} for n, file in enumerate(files)]
    )
    cancelled = sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=made.id)
    assert cancelled.file_counts.in_progress == 0
    assert cancelled.file_counts.cancelled > 0
    listed = sdk.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=made.id, limit=2, order="asc"
    )
    assert [each.id for each in listed] == [file.id for file in files]
    assert sdk.vector_stores.file_batches.retrieve(batch.id, vector_store_id=made.id).status == "cancelled"
    sdk.vector_stores.delete(made.id)


def test_a_store_that_is_not_there(server: Served) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/search"), ("GET", "/files")):
        body = {"query": "x"} if path == "/search" else None
        response = server.http.request(method, f"/v1/vector_stores/vs_none{path}", json=body)
        assert response.status_code == 404, path
    unknown = server.http.get("/v1/vector_stores?colour=red")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "colour")
    wrong = server.http.get("/v1/vector_stores?limit=0")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "limit")


def test_a_store_is_made_anew(server: Served, store: openai.types.VectorStore) -> None:
    response: httpx.Response = server.http.post(f"/v1/vector_stores/{store.id}/reindex", json={})
    assert response.status_code == 200, response.text
    assert response.json()["documents"] == 3
    found = server.http.post(f"/v1/vector_stores/{store.id}/search", json={"query": "first on the Moon"})
    assert found.json()["data"][0]["filename"] == "moon.md"


def test_folders_are_followed(server: Served, store: openai.types.VectorStore, tmp_path: Path) -> None:
    place = f"/v1/vector_stores/{store.id}/folders"
    made = server.http.post(place, json={"path": str(tmp_path)})
    assert made.status_code == 200, made.text
    (listed,) = server.http.get(place).json()["data"]
    assert (listed["id"], listed["path"], listed["files"]) == (made.json()["id"], str(tmp_path), 0)
    for wrong in ("relative", "/nowhere/at/all", "/"):
        assert server.http.post(place, json={"path": wrong}).status_code == 400
    assert server.http.delete(f"{place}/abc").status_code == 404
    assert server.http.delete(f"{place}/{listed['id']}").json()["deleted"]
    assert server.http.get(place).json()["data"] == []


def test_the_cache_tells_its_hit_rate(server: Served, store: openai.types.VectorStore) -> None:
    assert store.file_counts.completed
    rate = [line for line in server.http.get("/metrics").text.splitlines() if "cache_hit_rate " in line]
    assert 0 <= float(rate[-1].split()[1]) <= 1
