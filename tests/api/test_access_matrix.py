"""Every route as every role, for the objects of another owner: nothing is told, nothing is changed.

One owner keeps one object of each kind, all of them marked. Then everybody else asks for them by their ids,
through every path that takes one, and through every body that can name one.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.admin import NewKey
from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.operation import Operation
from appliance.api.routes import OPERATIONS
from appliance.client import Client
from appliance.principal import ROLES, Grant
from tests.conftest import require
from tests.serving import CHAT, EMBED, Served

MARK = "marzipan-7351"
STRANGER = ""  # without a key
ALL = (*OPERATIONS, DOCUMENT_OPERATION)
LISTS = tuple(
    each
    for each in ALL
    if each.method == "GET" and "{" not in each.path and not each.path.startswith(("/admin/", "/metrics"))
)


class World:
    """A server with an owner's objects, and a client for everybody else."""

    def __init__(self, served: Served) -> None:
        self.served = served
        with Client(served.url) as local:
            boss = local.create_key(NewKey(name="boss", grant=Grant(role="admin"))).secret
        self.clients = {STRANGER: self._client("")}
        with Client(served.url, boss) as admin:
            for role in ROLES:
                # Of an owner each: an admin's key works on the machine's own data otherwise.
                new = NewKey(name=f"other-{role}", grant=Grant(role=role), owner=f"owner-of-{role}")
                self.clients[role] = self._client(admin.create_key(new).secret)
            issued = admin.create_key(NewKey(name="ada", grant=Grant(role="user")))
        self.ada = self._client(issued.secret)
        self.ids = self._keep_objects()

    def _client(self, secret: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.Client(base_url=self.served.url, headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        for client in (self.ada, *self.clients.values()):
            client.close()
        self.served.end()

    def _post(self, path: str, **body: Any) -> Any:
        answer = self.ada.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _upload(self, purpose: str, content: bytes) -> str:
        files = {"file": (f"{MARK}.txt", io.BytesIO(content))}
        answer = self.ada.post("/v1/files", files=files, data={"purpose": purpose})
        id: str = answer.raise_for_status().json()["id"]
        return id

    def _keep_objects(self) -> dict[str, str]:
        said: dict[str, Any] = {"model": CHAT, "max_output_tokens": 16, "input": f"Say {MARK}."}
        metadata = {"mark": MARK}
        file = self._upload("assistants", f"The secret is {MARK}.".encode())
        base = self._post("/v1/vector_stores", name=MARK, file_ids=[file], metadata=metadata)["id"]
        self.served.wait_until(
            lambda: self.ada.get(f"/v1/vector_stores/{base}").json()["file_counts"]["completed"] == 1,
            60,
        )
        attached = self._upload("assistants", b"more")
        batch = self._post(f"/v1/vector_stores/{base}/file_batches", file_ids=[attached])["id"]
        conversation = self._post("/v1/conversations", metadata=metadata)["id"]
        turn = {"type": "message", "role": "user", "content": MARK}
        items = self._post(f"/v1/conversations/{conversation}/items", items=[turn])
        line = {
            "custom_id": "1",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": CHAT, "prompt": MARK, "max_tokens": 4},
        }
        jobs = self._upload("batch", json.dumps(line).encode())
        job = self._post(
            "/v1/batches",
            input_file_id=jobs,
            endpoint="/v1/completions",
            completion_window="24h",
            metadata=metadata,
        )["id"]
        chat = self._post(
            "/v1/chat/completions",
            model=CHAT,
            messages=[{"role": "user", "content": MARK}],
            max_tokens=8,
            store=True,
            metadata=metadata,
        )["id"]
        upload = self._post(
            "/v1/uploads", filename=f"{MARK}.txt", bytes=5, mime_type="text/plain", purpose="user_data"
        )["id"]
        return {
            "file_id": file,
            "vector_store_id": base,
            "batch_id": job,
            "file_batch_id": batch,
            "conversation_id": conversation,
            "item_id": items["data"][0]["id"],
            "response_id": self._post("/v1/responses", **said, metadata=metadata)["id"],
            "completion_id": chat,
            "upload_id": upload,
            "folder_id": "1",
        }

    def path_of(self, operation: Operation) -> str:
        """With the owner's ids in it, and words where it has no objects."""
        ids = dict(self.ids)
        if "/file_batches/" in operation.path:
            ids["batch_id"] = ids["file_batch_id"]
        return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "nothing"), operation.path)


BODIES: dict[str, Any] = {  # the least that each path takes
    "/search": {"query": "secret"},
    "/folders": {"path": tempfile.gettempdir()},
    "/readers": {"readers": ["*"]},
    "/items": {"items": [{"type": "message", "role": "user", "content": "x"}]},
    "/complete": {"part_ids": ["part_1"]},
    "/files/{file_id}": {"attributes": {}},
    "/reindex": {},
    "{completion_id}": {"metadata": {}},
    "{conversation_id}": {"metadata": {}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require([CHAT, EMBED])
    served = Served(tmp_path_factory.mktemp("matrix") / "home", [CHAT, EMBED])
    try:
        served.wait_ready()
        world = World(served)
    except BaseException:
        served.end()
        raise
    yield world
    world.close()


def ask(world: World, client: httpx.Client, operation: Operation) -> httpx.Response:
    path = world.path_of(operation)
    if operation.request is None:
        return client.request(operation.method, path)
    if operation.request_media == "multipart/form-data":
        files = {"file" if path == "/v1/files" else "data": ("x", io.BytesIO(b"12345"))}
        return client.request(operation.method, path, files=files, data={"purpose": "assistants"})
    body = next((body for end, body in BODIES.items() if operation.path.endswith(end)), {})
    if path.endswith(("/files", "/file_batches")) and operation.method == "POST":
        file = world.ids["file_id"]
        body = {"file_id": file} if path.endswith("/files") else {"file_ids": [file]}
    return client.request(operation.method, path, json=body)


def has(role: str, least: str) -> bool:
    return ROLES.index(role) >= ROLES.index(least)  # type: ignore[arg-type]


def names_an_object(operation: Operation) -> bool:
    return bool(re.search(r"\{(?!model|key|request|version)\w+_id\}", operation.path)) and (
        not operation.path.startswith("/admin/")
    )


def test_without_a_key_only_what_is_public_answers(world: World) -> None:
    wrong = [
        (operation.method, operation.path, answer.status_code)
        for operation in ALL
        if (answer := ask(world, world.clients[STRANGER], operation)).status_code
        != (200 if operation.access == "public" else 401)
    ]
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_no_further_than_it_may(world: World, role: Any) -> None:
    above = ROLES[ROLES.index(role) + 1 :]
    wrong = [
        (operation.method, operation.path, answer.status_code)
        for operation in ALL
        if operation.access in above
        and (answer := ask(world, world.clients[role], operation)).status_code != 403
    ]
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_anothers_objects_do_not_exist(world: World, role: Any) -> None:
    may = ROLES[: ROLES.index(role) + 1]
    leaks = []
    asked = 0
    for operation in ALL:
        if operation.access in may and names_an_object(operation):
            answer = ask(world, world.clients[role], operation)
            asked += 1
            if answer.status_code != 404 or MARK in answer.text:
                leaks.append((operation.method, operation.path, answer.status_code, answer.text[:200]))
    assert leaks == []
    assert asked >= (5 if role == "reader" else 35)


@pytest.mark.parametrize("role", ROLES)
def test_no_list_shows_them(world: World, role: Any) -> None:
    may = ("public", *ROLES[: ROLES.index(role) + 1])
    client = world.clients[role]
    assert [each.path for each in LISTS if each.access in may and MARK in client.get(each.path).text] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_body_reaches_them(world: World, role: Any) -> None:
    """By reference: in what is asked, searched, continued, attached, batched."""
    ids = world.ids
    said: dict[str, Any] = {"model": CHAT, "input": "x", "max_output_tokens": 16, "store": False}
    search = {"type": "file_search", "vector_store_ids": [ids["vector_store_id"]]}
    user = [{"role": "user", "content": "What is the secret?"}]
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("reader", "/v1/responses", {**said, "previous_response_id": ids["response_id"]}),
        ("reader", "/v1/responses", {**said, "conversation": ids["conversation_id"]}),
        ("reader", "/v1/responses", {**said, "tools": [search]}),
        ("reader", "/v1/responses", {**said, "input": [{"type": "item_reference", "id": ids["item_id"]}]}),
        ("reader", "/v1/chat/completions", {"model": f"{CHAT}@{MARK}", "messages": user}),
        ("reader", "/v1/chat/completions", {"model": CHAT, "messages": user, "knowledge": MARK}),
        (
            "reader",
            "/v1/chat/completions",
            {"model": CHAT, "messages": user, "knowledge": ids["vector_store_id"]},
        ),
        ("user", "/v1/vector_stores", {"name": "mine", "file_ids": [ids["file_id"]]}),
        (
            "user",
            "/v1/batches",
            {"input_file_id": ids["file_id"], "endpoint": "/v1/completions", "completion_window": "24h"},
        ),
    ]
    client = world.clients[role]
    wrong = []
    for least, path, body in bodies:
        answer = client.post(path, json=body)
        code = str(answer.json().get("error", {}).get("code"))
        is_hidden = code.endswith("not_found") if has(role, least) else answer.status_code == 403
        if not is_hidden or "secret is" in answer.text:
            wrong.append((path, body, answer.status_code, answer.text[:200]))
    assert wrong == []
    assert MARK not in client.get(f"/v1/models/{CHAT}@{MARK}").json().get("id", "")


def test_after_all_that_everything_is_there_unchanged(world: World) -> None:
    """Runs last in the file: nobody has deleted, changed or cancelled anything."""
    ids = world.ids
    for path in (
        f"/v1/files/{ids['file_id']}",
        f"/v1/vector_stores/{ids['vector_store_id']}",
        f"/v1/vector_stores/{ids['vector_store_id']}/files/{ids['file_id']}/content",
        f"/v1/conversations/{ids['conversation_id']}",
        f"/v1/conversations/{ids['conversation_id']}/items/{ids['item_id']}",
        f"/v1/responses/{ids['response_id']}",
        f"/v1/chat/completions/{ids['completion_id']}",
        f"/v1/batches/{ids['batch_id']}",
    ):
        answer = world.ada.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert MARK in answer.text
    assert world.ada.get(f"/v1/files/{ids['file_id']}/content").content == f"The secret is {MARK}.".encode()
    readers = world.ada.get(f"/v1/vector_stores/{ids['vector_store_id']}/readers")
    assert readers.json()["readers"] == []
    world.served.wait_until(
        lambda: world.ada.get(f"/v1/batches/{ids['batch_id']}").json()["status"] == "completed", 60
    )


def test_what_is_shared_may_be_read_and_no_more(world: World) -> None:
    base = f"/v1/vector_stores/{world.ids['vector_store_id']}"
    shared = world.ada.put(f"{base}/readers", json={"readers": ["other-reader"]})
    assert shared.json()["readers"] == ["owner-of-reader"]
    reader, user = world.clients["reader"], world.clients["user"]
    assert reader.get(base).json()["name"] == MARK
    assert MARK in reader.post(f"{base}/search", json={"query": "secret"}).text
    assert reader.get(f"/v1/models/{CHAT}@{MARK}").status_code == 200
    assert reader.delete(base).status_code == 403
    assert user.get(base).status_code == 404
    world.ada.put(f"{base}/readers", json={"readers": ["*"]})
    assert user.get(base).status_code == 200
    for change in (user.delete(base), user.post(base, json={"name": "mine"}), user.get(f"{base}/folders")):
        assert change.status_code == 403
    assert user.put(f"{base}/readers", json={"readers": ["*"]}).status_code == 403
    assert world.ada.put(f"{base}/readers", json={"readers": ["nobody"]}).status_code == 400
    world.ada.put(f"{base}/readers", json={"readers": []})
    assert user.get(base).status_code == 404
    assert reader.get(base).status_code == 404
