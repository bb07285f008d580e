"""Local and online as one, through a whole server: a scripted online service behind it, and every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.clients.routed import CAPABILITIES, platform, services, serving, write_settings
from tests.conftest import require
from tests.serving import CHAT, Served, chat_body, parse_events, text_of
from tests.upstream.behaviour import CUTS, FAULTS_BEFORE_TEXT, Behaviour, make_text
from tests.upstream.service import Service

TEXT = make_text(7, 300)
KEY = "sk-secret-of-the-tests-0123456789"


class House(NamedTuple):
    server: Served
    flaky: Service
    well: Service

    def ask(
        self, model: str = "auto", *, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        body = chat_body(**fields) | {"model": model}
        return self.server.http.post("/v1/chat/completions", json=body, headers=headers or {})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require([CHAT])
    home = tmp_path_factory.mktemp("house") / "home"
    with services(TEXT, TEXT) as (flaky, well):
        (key_file := home.parent / "key").write_text(KEY)
        write_settings(
            home,
            platform("flaky", flaky.url, 90, key_file=str(key_file)),
            platform("well", well.url, 80, model={"capabilities": [*CAPABILITIES, "vision"]}),
            aliases={"gpt-*": ["flaky", "well", CHAT], "only-flaky": ["flaky/big"]},
            budgets=[{"scope": "platform", "name": "broke", "tokens": 1}],
        )
        with serving(home) as server:
            yield House(server, flaky, well)


def content(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def streamed(response: httpx.Response) -> tuple[str, list[dict[str, Any]]]:
    assert response.status_code == 200, response.text
    events, is_done = parse_events(response.read())
    assert is_done, events[-1]
    return text_of(events), events


def test_the_best_online_model_answers_and_is_named(house: House) -> None:
    response = house.ask()
    assert content(response) == TEXT
    assert response.headers["x-hearth-route"] == "online"
    assert response.headers["x-hearth-model"] == "flaky"
    assert response.headers["x-hearth-reason"] == "online-first: online, quality 90"
    assert response.headers["x-hearth-attempts"] == "flaky/flaky ok"
    route = response.json()["usage"]["hearth"]
    assert (route["route"], route["model"], route["platform"]) == ("online", "flaky", "flaky")
    assert [(each["model"], each["outcome"]) for each in route["attempts"]] == [("flaky", "ok")]
    assert route["cost"] > 0
    assert house.flaky.requests[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS_BEFORE_TEXT)
def test_every_fault_before_the_text_fails_over(house: House, fault: str, is_stream: bool) -> None:
    house.flaky.script(*[FAULTS_BEFORE_TEXT[fault]] * 4)
    response = house.ask(stream=is_stream)
    house.flaky._script.clear()
    said = streamed(response)[0] if is_stream else content(response)
    assert said == TEXT
    assert response.headers["x-hearth-model"] == "well"
    assert "flaky failed: " in response.headers["x-hearth-reason"]
    assert KEY not in response.text + str(response.headers)


@pytest.mark.parametrize("ending", CUTS)
def test_a_cut_stream_goes_on_without_a_character_lost_or_doubled(house: House, ending: Any) -> None:
    house.flaky.script(Behaviour(cut_after=130, ending=ending))
    text, events = streamed(house.ask(stream=True, stream_options={"include_usage": True}))
    assert text == TEXT
    (place,) = events[-1]["usage"]["hearth"]["continuations"]
    assert place["model"] == "well"
    assert 0 < place["characters"] <= 130
    assert [w for event in events for w in event.get("warnings") or ()] == [
        f"the answer was cut after {place['characters']} characters; well goes on from there"
    ]


def test_the_local_model_answers_when_nobody_else_does(house: House) -> None:
    house.flaky.script(*[Behaviour(status=500)] * 2)
    house.well.script(*[Behaviour(status=500)] * 2)
    response = house.ask(max_tokens=3)
    assert content(response)
    assert response.headers["x-hearth-route"] == "local"
    outcomes = [each["outcome"] for each in response.json()["usage"]["hearth"]["attempts"]]
    assert outcomes == ["server_error"] * 4 + ["ok"]


def test_a_cut_answer_goes_on_with_the_local_model(house: House) -> None:
    house.flaky.script(Behaviour(cut_after=50, ending="close"))
    house.well.script(*[Behaviour(status=500)] * 2)
    text, events = streamed(house.ask(stream=True, max_tokens=40, stream_options={"include_usage": True}))
    (place,) = events[-1]["usage"]["hearth"]["continuations"]
    assert place["model"] == CHAT
    assert text[: place["characters"]] == TEXT[: place["characters"]]
    assert len(text) > place["characters"]


def test_the_header_asks_for_a_policy_and_cannot_ask_for_nonsense(house: House) -> None:
    local = house.ask(headers={"x-hearth-policy": "local-only"}, max_tokens=2)
    assert local.headers["x-hearth-route"] == "local"
    wrong = house.ask(headers={"x-hearth-policy": "whatever"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-hearth-policy")


def test_names_lead_to_their_models(house: House) -> None:
    for name, model in {"gpt-9": "flaky", "well/big": "well", "only-flaky": "flaky", CHAT: CHAT}.items():
        assert house.ask(name, max_tokens=2).headers["x-hearth-model"] == model
    assert house.ask("nothing").status_code == 404


def test_a_request_that_no_model_can_answer_is_a_400_that_names_it(house: House) -> None:
    response = house.ask("only-flaky", logprobs=True, headers={"x-hearth-policy": "best"})
    assert response.headers["x-hearth-route"] == "local", "the local one steps in: it can"
    refused = house.server.http.post(
        "/v1/completions", json={"model": "only-flaky", "prompt": [1, 2, 3], "max_tokens": 2}
    )
    assert refused.headers["x-hearth-route"] == "local"


def test_a_picture_reaches_the_model_that_sees_and_no_other(house: House) -> None:
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
    }
    parts = [
        {"type": "text", "text": "What is in "},
        picture,
        {"type": "text", "text": "and in "},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.jpg"}},
        {"type": "text", "text": "?"},
    ]
    response = house.ask(messages=[{"role": "user", "content": parts}])
    assert content(response) == TEXT
    assert response.headers["x-hearth-model"] == "well"
    assert house.well.requests[-1].body["messages"] == [{"role": "user", "content": parts}]
    for model in (CHAT, "only-flaky"):
        refused = house.ask(model, messages=[{"role": "user", "content": [picture]}])
        error = refused.json()["error"]
        assert (refused.status_code, error["param"], error["code"]) == (
            400,
            "messages",
            "unsupported_capability",
        )
        assert f"{CHAT}: cannot do vision" in error["message"]


WEB = {"url": "https://example.org/cat.jpg"}


@pytest.mark.parametrize(
    ("part", "role", "param"),
    [
        ({"type": "image_url"}, "user", "image_url"),
        ({"type": "text", "text": "a", "image_url": WEB}, "user", "image_url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "user", "image_url.url"),
        ({"type": "image_url", "image_url": WEB}, "system", "type"),
        ({"type": "input_audio", "input_audio": {}}, "user", "type"),
    ],
)
def test_parts_that_cannot_be_are_named(house: House, part: dict[str, Any], role: str, param: str) -> None:
    response = house.ask(messages=[{"role": role, "content": [part]}, {"role": "user", "content": "So?"}])
    found = response.json()["error"]["param"]
    assert (response.status_code, found) == (400, f"messages[0].content[0].{param}")


def test_what_the_client_set_is_sent_on_and_nothing_else(house: House) -> None:
    house.ask(temperature=0.3, reasoning_effort="low", top_k=5)
    body = house.flaky.requests[-1].body
    assert (body["temperature"], body["reasoning_effort"], body["top_k"]) == (0.3, "low", 5)
    assert not {"top_p", "min_p", "seed"} & body.keys()


def test_text_completions_go_online_too(house: House) -> None:
    response = house.server.http.post(
        "/v1/completions", json={"model": "auto", "prompt": "Once", "max_tokens": 2, "logprobs": 1}
    )
    assert response.headers["x-hearth-route"] == "local", "the online models have no logprobs"


def test_figures_count_every_attempt(house: House) -> None:
    house.flaky.script(*[Behaviour(status=429)] * 2)
    house.ask()
    figures = house.server.http.get("/metrics").text
    place = f'instance="{house.flaky.url}",model="flaky"'
    assert f"hearth_model_attempts_total{{{place}," in figures
    assert 'outcome="rate_limited"' in figures
    assert 'model_inference_latency_seconds_count{instance="' in figures
    assert "hearth_model_cost_total" in figures
    assert f'hearth_instance_breaker{{{place},platform="flaky"}}' in figures
    assert KEY not in figures + house.server.log
