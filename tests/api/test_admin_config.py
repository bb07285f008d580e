"""/admin/v1/config and /admin/v1/routing of a whole server, and the commands that speak of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.routed import platform, services, serving, toml, write_settings
from tests.commands import run_hearth
from tests.conftest import require
from tests.serving import CHAT, Served, chat_body
from tests.upstream.behaviour import Behaviour
from tests.upstream.service import Service

Pair = tuple[Served, Service, Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    require([CHAT])
    home = tmp_path_factory.mktemp("admin") / "home"
    with services("Hello from afar.") as (cloud,):
        write_settings(home, platform("cloud", cloud.url), aliases={"gpt-5": ["cloud"]})
        with serving(home, "config_api=true") as server:
            yield server, cloud, home


def text_of(home: Path) -> str:
    return (home / "hearth.toml").read_text()


def test_models_of_platforms_and_aliases_are_listed(pair: Pair) -> None:
    server, _, _ = pair
    cards = {card["id"]: card for card in server.http.get("/v1/models").json()["data"]}
    assert cards["cloud"]["owned_by"] == "cloud"
    assert cards["cloud"]["route"] == "online"
    assert cards["gpt-5"]["alias_of"] == ["cloud"]
    assert cards[CHAT]["route"] == "local"
    assert server.http.get("/v1/models/cloud/big").json()["id"] == "cloud"


def test_a_dry_run_says_who_would_answer_and_asks_nobody(pair: Pair) -> None:
    server, cloud, home = pair
    asked = len(cloud.requests)
    found = server.http.post(
        "/admin/v1/routing/explain", json={"model": "auto", "needs": ["logprobs"]}
    ).json()
    assert [each["model"] for each in found["candidates"]] == [CHAT]
    assert [(each["model"], each["why"]) for each in found["rejected"]] == [("cloud", "incapable")]
    shown = run_hearth("route", "explain", "gpt-5", home=home, url=server.url)
    assert "1. cloud (cloud): online-first: online, quality 50" in shown.stdout, shown.stderr
    assert len(cloud.requests) == asked


def test_figures_are_told_per_model_and_place(pair: Pair) -> None:
    server, cloud, home = pair
    server.http.post("/v1/chat/completions", json=chat_body() | {"model": "cloud"})
    models = {model["id"]: model for model in server.http.get("/admin/v1/routing").json()["models"]}
    (place,) = models["cloud"]["places"]
    assert (place["instance"], place["breaker"], place["running"]) == (cloud.url, "closed", 0)
    assert place["figures"]["answers"] == 1
    assert place["figures"]["first_token_p50"] > 0
    assert place["figures"]["cost"] > 0
    assert "cloud" in run_hearth("route", "status", home=home, url=server.url).stdout


def test_an_edited_file_is_taken_and_a_bad_one_is_not(pair: Pair) -> None:
    server, _, home = pair
    good = text_of(home)

    def cards() -> list[str]:
        return [card["id"] for card in server.http.get("/v1/models").json()["data"]]

    (home / "hearth.toml").write_text(good.replace("gpt-5", "gpt-6"))
    server.wait_until(lambda: "gpt-6" in cards(), 10)
    (home / "hearth.toml").write_text(good.replace("gpt-5", "gpt-7").replace("hybrid", "hybrids"))
    server.wait_until(lambda: server.http.get("/admin/v1/config").json()["error"], 10)
    assert "gpt-6" in cards()
    assert "routing.mode = 'hybrids'" in server.http.get("/admin/v1/config").json()["error"]
    (home / "hearth.toml").write_text(good)
    server.wait_until(lambda: "gpt-5" in cards(), 10)
    assert server.http.get("/admin/v1/config").json()["error"] is None


def test_a_new_text_through_the_api_is_checked_taken_kept_and_taken_back(pair: Pair) -> None:
    server, _, home = pair
    before = text_of(home)
    after = before.replace("gpt-5", "gpt-8") + "[generator]\nslots = 3\n"
    checked = server.http.post("/admin/v1/config/check", json={"toml": after}).json()
    assert [(c["key"], c["needs_restart"]) for c in checked["changes"]] == [
        ("generator.slots", True),
        ("routing.aliases.gpt-5", False),
        ("routing.aliases.gpt-8", False),
    ]
    taken = server.http.put("/admin/v1/config", json={"toml": after}).json()
    assert [change["key"] for change in taken["pending"]] == ["generator.slots"]
    assert text_of(home) == after
    listed = run_hearth("config", "history", home=home).stdout
    assert f"{taken['version']:>5}  " in listed
    assert "local (api)" in listed
    assert "routing.aliases.gpt-8" in listed
    back = server.http.post("/admin/v1/config/rollback", json={"version": taken["version"] - 1})
    assert back.status_code == 200, back.text
    assert text_of(home) == before


def test_single_settings_are_set_in_the_text_as_it_is(pair: Pair) -> None:
    server, _, home = pair
    before = text_of(home)
    wanted = {"set": {"generator.temperature": 0.25, "limits.drain": 9.0}}
    checked = server.http.post("/admin/v1/config/check", json=wanted).json()
    assert [change["key"] for change in checked["changes"]] == ["generator.temperature", "limits.drain"]
    assert server.http.put("/admin/v1/config", json=wanted).json()["pending"] == []
    assert text_of(home) == checked["toml"] == server.http.get("/admin/v1/config/text").json()["toml"]
    told = {each["key"]: each for each in server.http.get("/admin/v1/config/settings").json()["data"]}
    assert (told["limits.drain"]["value"], told["limits.drain"]["source"]) == (9.0, "file")
    assert told["port"]["is_fixed"]
    for wrong in ({"port": "x"}, {"generator.slot": 1}, {"generator": 1}):
        response = server.http.put("/admin/v1/config", json={"set": wrong})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "set"), response.text
    assert server.http.put("/admin/v1/config", json={}).status_code == 400
    assert server.http.put("/admin/v1/config", json={"toml": before}).status_code == 200
    assert text_of(home) == before


def test_a_wrong_text_through_the_api_is_a_400_that_names_it(pair: Pair) -> None:
    server, _, home = pair
    before = text_of(home)
    routing = "[routing]\nmode = 'hybrid'\n"
    for wrong in ("port = 'x'", f"{routing}policy = 'custom'", f"{routing}aliases = {{x = ['nobody']}}"):
        response = server.http.put("/admin/v1/config", json={"toml": wrong})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "config_error")
    assert text_of(home) == before


def test_the_command_line_checks_compares_and_goes_back(pair: Pair) -> None:
    server, _, home = pair
    before = text_of(home)
    assert (
        "is right: mode hybrid, 1 platforms with 1 models" in run_hearth("config", "check", home=home).stdout
    )
    (wrong := home / "wrong.toml").write_text("[routing.aliases]\nx = ['nobody']\n[routing]\nmode='hybrid'\n")
    assert "x" in run_hearth("config", "check", str(wrong), home=home).stderr
    latest = server.http.get("/admin/v1/config").json()["version"]
    (home / "hearth.toml").write_text(before.replace("gpt-5", "gpt-9"))
    assert "routing.aliases.gpt-9" in run_hearth("config", "diff", str(latest), home=home).stdout
    done = run_hearth("config", "rollback", str(latest), home=home)
    assert f"is version {latest} again" in done.stdout, done.stderr
    assert text_of(home) == before


def test_without_leave_the_api_changes_nothing(server: Served) -> None:
    response = server.http.put("/admin/v1/config", json={"toml": "port = 1\n"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


def test_a_running_stream_ends_on_the_configuration_it_began_with(pair: Pair) -> None:
    server, cloud, home = pair

    good = text_of(home)
    cloud.script(Behaviour(between=0.1))
    body = chat_body(stream=True) | {"model": "cloud"}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        (home / "hearth.toml").write_text(f"[routing]\nmode = {toml('hybrid')}\n")
        server.wait_until(
            lambda: "cloud" not in [c["id"] for c in server.http.get("/v1/models").json()["data"]], 10
        )
        assert list(lines)[-2] == "data: [DONE]"
    (home / "hearth.toml").write_text(good)


def test_a_server_becomes_offline_at_once_and_hybrid_only_by_a_restart(tmp_path: Path) -> None:
    require([CHAT])
    with services("Hello from afar.") as (cloud,):
        write_settings(tmp_path / "home", platform("cloud", cloud.url))
        good = text_of(tmp_path / "home")
        with serving(tmp_path / "home") as server:
            (tmp_path / "home" / "hearth.toml").write_text(good.replace("hybrid", "offline"))
            server.wait_until(lambda: server.http.get("/admin/v1/routing").json()["mode"] == "offline", 10)
            answer = server.http.post(
                "/v1/chat/completions", json=chat_body(max_tokens=2) | {"model": "auto"}
            )
            assert answer.headers["x-hearth-route"] == "local"
            assert not cloud.requests
            (tmp_path / "home" / "hearth.toml").write_text(good)
            server.wait_until(lambda: server.http.get("/admin/v1/config").json()["pending"], 10)
            assert server.http.get("/admin/v1/routing").json()["mode"] == "offline"
