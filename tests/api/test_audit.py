"""The audit log, privacy and traces through whole servers: what a request leaves, and what goes online."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from appliance.audit import AuditEntry
from appliance.client import Client
from tests.clients.routed import CAPABILITIES, platform, services, serving, write_settings
from tests.commands import run_hearth
from tests.conftest import StartServer, require
from tests.serving import CHAT, EMBED, Served, chat_body
from tests.upstream.behaviour import make_text
from tests.upstream.service import Service

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
MAIL = "jane.doe@example.org"
CARD = "4111 1111 1111 1111"
CANARY = "kJ8s0Wm2canaryQz71"


def newest(client: Client, **wanted: Any) -> AuditEntry:
    """The last line, once it is there: it is written when the answer's last byte has gone."""
    page = client.audit_lines(limit=1, **wanted)
    return page.data[0]


def line_of(client: Client, response: httpx.Response) -> AuditEntry:
    id = response.headers["x-request-id"]
    after = 0
    for _ in range(100):
        page = client.audit_lines(after=after, wait=2, limit=1000)
        for entry in page.data:
            if entry.request == id:
                return entry
        after = page.last
    raise AssertionError(f"{id} has left no line")


class House(NamedTuple):
    server: Served
    cloud: Service
    client: Client

    def ask(self, content: str, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"max_tokens": 8, **chat_body(content)} | {"model": "auto"} | fields
        return self.server.http.post("/v1/chat/completions", json=body, headers=headers or {})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require([CHAT])
    home = tmp_path_factory.mktemp("house") / "home"
    with services(make_text(7, 60)) as (cloud,):
        write_settings(home, platform("cloud", cloud.url, 90, model={"capabilities": [*CAPABILITIES]}))
        with serving(home) as server, Client(server.url) as client:
            yield House(server, cloud, client)


@pytest.fixture
def privacy(house: House) -> Iterator[Any]:
    """Sets `privacy.sensitive` of the running server by its file; `tell` again afterwards."""
    file = house.server.home / "hearth.toml"
    before = file.read_text()

    def set_to(value: str) -> None:
        file.write_text(before + f'\n[privacy]\nsensitive = "{value}"\n')
        house.server.http.post("/admin/v1/config/reload")

    yield set_to
    file.write_text(before)
    house.server.http.post("/admin/v1/config/reload")


def sent_online(house: House) -> str:
    return json.dumps(house.cloud.requests[-1].body, ensure_ascii=False)


def test_a_line_says_who_answered_and_with_how_many_tokens(house: House) -> None:
    response = house.ask("Say hello.", headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    line = line_of(house.client, response)
    assert (line.endpoint, line.status) == ("POST /v1/chat/completions", 200)
    assert (line.model, line.route, line.platform) == ("cloud", "online", "cloud")
    usage = response.json()["usage"]
    assert (line.tokens.prompt, line.tokens.completion) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert (line.sensitive, line.kinds, line.prompt) == (False, (), "")
    assert line.trace == TRACE
    assert line.user
    assert "local" not in line.user


def test_a_trace_goes_through(house: House) -> None:
    response = house.ask("Say hello.", headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    version, trace, span, flags = response.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    sent = house.cloud.requests[-1].headers
    assert sent["tracestate"] == "vendor=1"
    assert sent["traceparent"].startswith(f"00-{TRACE}-")
    assert sent["traceparent"].split("-")[2] not in (span, "b7ad6b7169203331"), "a span of its own"
    own = house.ask("Say hello.").headers["traceparent"].split("-")[1]
    assert own != TRACE


def test_streams_embeddings_refusals_and_strays_have_lines(house: House) -> None:
    with house.server.http.stream(
        "POST", "/v1/chat/completions", json={**chat_body(), "model": CHAT, "stream": True, "max_tokens": 5}
    ) as stream:
        stream.read()
    line = line_of(house.client, stream)
    assert (line.model, line.route, line.tokens.completion) == (CHAT, "local", 5)
    refused = house.server.http.post("/v1/chat/completions", json={"model": "nobody", "messages": []})
    assert line_of(house.client, refused).status == refused.status_code
    stray = house.server.http.get("/v1/nothing/here")
    assert line_of(house.client, stray).endpoint == "GET other"
    file = house.server.http.get("/v1/files/file-of-nobody")
    assert line_of(house.client, file).endpoint == "GET /v1/files/{file_id}"


def test_a_client_that_leaves_has_a_line_with_what_it_took(house: House) -> None:
    body = {**chat_body("Count."), "model": CHAT, "stream": True, "max_tokens": 300, "ignore_eos": True}
    with house.server.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        next(stream.iter_lines())
    line = line_of(house.client, stream)
    assert line.tokens.prompt > 0
    assert line.tokens.completion < 300


def test_what_only_watches_leaves_no_line(house: House) -> None:
    before = newest(house.client).seq
    for path in ("/healthz", "/readyz", "/metrics", "/admin/v1/status", "/admin/v1/history"):
        assert house.server.http.get(path).status_code == 200
    page = house.client.audit_lines(after=before, limit=100)
    assert [line.endpoint for line in page.data] == ["GET /admin/v1/audit"]


def test_following_waits_and_does_not_wake_itself(house: House) -> None:
    after = house.client.audit_lines(limit=1).newest + 1  # this listing has a line too
    page = house.client.audit_lines(after=after, wait=0.3)
    assert page.data == ()
    found: list[AuditEntry] = []

    def follow() -> None:
        with Client(house.server.url) as client:
            found.extend(client.audit_lines(after=after, wait=20).data)

    following = threading.Thread(target=follow)
    following.start()
    response = house.server.http.get("/v1/models")
    following.join(20)
    assert [line.request for line in found] == [response.headers["x-request-id"]]


def test_sensitive_data_that_goes_online_is_told(house: House, privacy: Any) -> None:
    privacy("tell")
    response = house.ask(f"Write to {MAIL} and charge {CARD}")
    assert response.headers["x-hearth-route"] == "online"
    assert "card, email" in response.headers["x-hearth-warning"]
    assert response.json()["warnings"][0].endswith("went online as it is")
    assert MAIL in sent_online(house)
    line = line_of(house.client, response)
    assert (line.sensitive, line.kinds, line.privacy) == (True, ("card", "email"), "told")
    assert newest(house.client, sensitive=True).request == line.request
    figures = house.server.http.get("/metrics").text
    assert 'hearth_sensitive_requests_total{action="told",kind="card"}' in figures
    assert 'hearth_answers_total{route="online"}' in figures


def test_sensitive_data_is_taken_out_before_it_goes_online(house: House, privacy: Any) -> None:
    privacy("redact")
    messages = [
        {"role": "system", "content": f"You serve {MAIL}."},
        {"role": "user", "content": f"Charge {CARD}, not the other one."},
    ]
    response = house.ask("", messages=messages)
    assert response.headers["x-hearth-route"] == "online"
    assert "was taken out" in response.json()["warnings"][0]
    sent = sent_online(house)
    assert MAIL not in sent
    assert CARD not in sent
    assert "You serve [email]." in sent
    assert "Charge [card], not the other one." in sent
    assert line_of(house.client, response).privacy == "redacted"
    text = house.server.http.post(
        "/v1/completions", json={"model": "cloud", "prompt": f"To {MAIL}:", "max_tokens": 5}
    )
    assert text.status_code == 200, text.text
    assert "To [email]:" in sent_online(house)


def test_what_cannot_be_redacted_stays_here(house: House, privacy: Any) -> None:
    """A schema means something else without its words."""
    privacy("redact")
    asked = len(house.cloud.requests)
    schema = {"type": "object", "properties": {"to": {"const": MAIL}}, "required": ["to"]}
    form = {"type": "json_schema", "json_schema": {"name": "mail", "schema": schema}}
    response = house.ask("Fill it in.", response_format=form, max_tokens=60)
    assert response.headers["x-hearth-route"] == "local"
    assert len(house.cloud.requests) == asked


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_sensitive_data_stays_here(house: House, privacy: Any, is_stream: bool) -> None:
    privacy("keep-local")
    asked = len(house.cloud.requests)
    response = house.ask(f"Charge {CARD}", stream=is_stream)
    assert response.status_code == 200, response.text
    assert response.headers["x-hearth-route"] == "local"
    assert "nothing of it went online" in response.headers["x-hearth-warning"]
    assert len(house.cloud.requests) == asked
    assert line_of(house.client, response).privacy == "kept-local"
    assert house.ask("Charge nothing").headers["x-hearth-route"] == "online"
    too_long = house.ask("word " * 250_000)
    assert too_long.headers.get("x-hearth-route") != "online", "what is too long to look at is not sent"


def test_every_surface_is_looked_at(house: House, privacy: Any) -> None:
    privacy("keep-local")
    asked = len(house.cloud.requests)
    user = [{"role": "user", "content": f"Mail {MAIL}"}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/responses", {"model": "auto", "input": f"Mail {MAIL}", "max_output_tokens": 16}),
        ("/v1/messages", {"model": "auto", "messages": user, "max_tokens": 5}),
        ("/api/chat", {"model": "auto", "messages": user, "stream": False, "options": {"num_predict": 5}}),
        (
            "/api/generate",
            {"model": "auto", "prompt": f"Mail {MAIL}", "stream": False, "options": {"num_predict": 5}},
        ),
        ("/v1/completions", {"model": "auto", "prompt": f"Mail {MAIL}", "max_tokens": 5}),
    ]
    for path, body in bodies:
        response = house.server.http.post(path, json=body)
        assert response.status_code == 200, (path, response.text)
        line = line_of(house.client, response)
        assert (line.kinds, line.route) == (("email",), "local"), path
    assert len(house.cloud.requests) == asked


def test_work_in_the_background_has_a_line_of_its_own(house: House) -> None:
    body = {"model": CHAT, "input": "Say hello.", "max_output_tokens": 16, "background": True}
    response = house.server.http.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    first = line_of(house.client, response)
    after, found = first.seq - 1, []
    while not found:
        page = house.client.audit_lines(after=after, wait=10, limit=100)
        found = [line for line in page.data if line.event == "background"]
        after = page.last
    assert (found[0].request, found[0].trace) == (first.request, first.trace)
    assert (found[0].model, found[0].status) == (CHAT, 200)
    assert found[0].tokens.completion > 0
    assert first.tokens.completion == 0, "counted once"


def test_the_log_is_checked_on_the_server_and_on_the_disk(house: House) -> None:
    checkpoint = house.client.audit_checkpoint()
    report = house.client.verify_audit([checkpoint])
    assert (report.is_sound, report.checkpoints) == (True, 1)
    done = run_hearth("audit", "verify", home=house.server.home)
    assert done.returncode == 0, done.stdout
    forged = house.client.verify_audit([type(checkpoint)(seq=2, time=checkpoint.time, mac="0" * 64)])
    assert [finding.fault for finding in forged.findings] == ["rewritten"]


def test_the_log_survives_a_kill_and_a_cut_is_found(start_server: StartServer) -> None:
    server = start_server()
    for _ in range(20):
        server.http.get("/v1/models")
    time.sleep(0.5)  # what is written within moments is covered
    server.process.kill()
    server.process.wait()
    done = run_hearth("audit", "verify", home=server.home)
    assert done.returncode == 0, done.stdout
    (path,) = (server.home / "audit").glob("audit-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 20, "an answer's line is there within moments"
    path.write_bytes(b"".join(lines[:-2]))
    done = run_hearth("audit", "verify", home=server.home)
    assert done.returncode == 1
    assert "the end was cut off" in done.stdout


def test_a_support_bundle_holds_no_secrets(start_server: StartServer, tmp_path: Path) -> None:
    """Canaries in everything that goes in; the log at its most talkative."""
    home = tmp_path / "home"
    home.mkdir()
    key_file = tmp_path / "key"
    key_file.write_text(f"sk-{CANARY}-key")
    (home / "hearth.toml").write_text(
        f'# the password is {CANARY}\nlog_level = "debug"\n[routing]\nmode = "hybrid"\n'
        '[[routing.platforms]]\nname = "cloud"\nhealth_seconds = 0\n'
        f'api_base_url = "http://127.0.0.1:9/v1/{CANARY}"\nkey_file = "{key_file}"\n'
        '[[routing.platforms.models]]\nname = "big"\n'
    )
    server = start_server(home=home, models=(CHAT, EMBED))
    prompt = f"My password = {CANARY}, mail {MAIL}"
    asked = server.chat(prompt, max_tokens=5, store=True, metadata={"note": CANARY}, user=CANARY)
    assert asked.status_code == 200, asked.text
    server.http.post("/v1/chat/completions", json={"model": CANARY, "messages": []})
    server.http.get(f"/v1/{CANARY}?key={CANARY}", headers={"authorization": f"Bearer {CANARY}"})
    server.http.post("/v1/embeddings", json={"model": EMBED, "input": CANARY})
    server.http.post(
        "/v1/files", files={"file": (f"{CANARY}.txt", CANARY.encode())}, data={"purpose": "assistants"}
    )
    bundle = tmp_path / "bundle.zip"
    done = run_hearth("support-bundle", str(bundle), home=home, url=server.url)
    assert done.returncode == 0, done.stderr
    assert bundle.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(bundle) as read:
        contents = {name: read.read(name).decode() for name in read.namelist()}
    assert {"settings.json", "status.json", "metrics.txt", "log.jsonl", "doctor.json", "home.txt"} <= set(
        contents
    )
    assert contents["missing.txt"] == ""
    for name, content in contents.items():
        assert CANARY not in content, name
        assert MAIL not in content, name
    assert CANARY not in server.log
    (audit,) = (home / "audit").glob("audit-*.jsonl")
    assert CANARY not in audit.read_text()
    assert MAIL not in audit.read_text()
