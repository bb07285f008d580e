"""POST /v1/chat/completions: every parameter, whole and streamed, on the real tiny model."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import CHAT, chat_body, events_of, text_of

PATH = "/v1/chat/completions"
PARIS, ROME = 7042, 7268  # the ids of " Paris" and " Rome" in SmolLM2's vocabulary
# The model is in no doubt at any step of this answer: what else is in the batch does not change it.
QUESTION = "List the months of the year."
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}


def ask(http: httpx.Client, content: str = QUESTION, **parameters: Any) -> dict[str, Any]:
    response = http.post(PATH, json=chat_body(content, **parameters))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stream(http: httpx.Client, content: str = QUESTION, **parameters: Any) -> list[dict[str, Any]]:
    response = http.post(PATH, json=chat_body(content, stream=True, **parameters))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events_of(response)


def said(answer: dict[str, Any], choice: int = 0) -> str:
    text: str = answer["choices"][choice]["message"]["content"]
    return text


@pytest.fixture(scope="module")
def greedy(http: httpx.Client) -> dict[str, Any]:
    """The model's most likely answer, with every token's logprobs."""
    return ask(http, logprobs=True, top_logprobs=3, **GREEDY)


def test_an_answer_has_openais_shape(greedy: dict[str, Any]) -> None:
    (choice,) = greedy["choices"]
    assert greedy["id"].startswith("chatcmpl-")
    assert (greedy["object"], greedy["model"]) == ("chat.completion", CHAT)
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    usage = greedy["usage"]
    assert usage["completion_tokens"] == 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    assert greedy["warnings"] == []


def test_temperature_zero_gives_the_same_answer_again_and_streamed(
    http: httpx.Client, greedy: dict[str, Any]
) -> None:
    assert said(ask(http, **GREEDY)) == said(greedy)
    assert text_of(stream(http, **GREEDY)) == said(greedy)


def test_a_stream_opens_with_the_role_and_closes_with_the_reason(http: httpx.Client) -> None:
    events = stream(http, **GREEDY)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons[-1] == "length"
    assert not any(reasons[:-1])
    assert len(events) > 10, "text must come as it is made"


def test_usage_comes_last_in_a_stream_when_asked_for(http: httpx.Client) -> None:
    events = stream(http, stream_options={"include_usage": True}, **GREEDY)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 24
    assert all("usage" not in event for event in events[:-1])


def test_max_completion_tokens_limits_and_wins_over_max_tokens(http: httpx.Client) -> None:
    answer = ask(http, max_completion_tokens=3, max_tokens=9, temperature=0)
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["warnings"] == ["max_tokens is ignored: max_completion_tokens was given too"]


def test_an_answer_that_ends_by_itself_says_stop(http: httpx.Client) -> None:
    answer = ask(http, "Say only: yes", temperature=0, max_tokens=200)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "<|im_end|>" not in said(answer)


@pytest.mark.parametrize("only_one", [{"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1}])
def test_samplers_that_leave_one_token_are_greedy(
    http: httpx.Client, greedy: dict[str, Any], only_one: dict[str, Any]
) -> None:
    assert said(ask(http, temperature=1.5, max_tokens=24, **only_one)) == said(greedy)


def test_a_seed_repeats_an_answer_and_another_does_not(http: httpx.Client) -> None:
    wild = {"temperature": 1.5, "max_tokens": 24, "top_p": 1, "min_p": 0, "deterministic": True}
    first, again, other = (said(ask(http, seed=seed, **wild)) for seed in (7, 7, -8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("streamed", [False, True])
def test_a_stop_string_across_tokens_ends_before_itself(
    http: httpx.Client, greedy: dict[str, Any], streamed: bool
) -> None:
    tokens = [each["token"] for each in greedy["choices"][0]["logprobs"]["content"]]
    at = next(i for i in range(2, len(tokens) - 1) if len(tokens[i]) > 1 and len(tokens[i + 1]) > 1)
    stop = tokens[at][-1] + tokens[at + 1][:2]
    expected = said(greedy)[: said(greedy).index(stop)]
    if streamed:
        events = stream(http, stop=["never said", stop], **GREEDY)
        text, reason = text_of(events), events[-1]["choices"][0]["finish_reason"]
    else:
        answer = ask(http, stop=stop, **GREEDY)
        text, reason = said(answer), answer["choices"][0]["finish_reason"]
    assert (text, reason) == (expected, "stop")


def test_a_frequency_penalty_makes_repetition_rare(http: httpx.Client) -> None:
    def repeated(penalty: float) -> int:
        answer = ask(
            http, "Repeat the word dog.", frequency_penalty=penalty, ignore_eos=True, logprobs=True, **GREEDY
        )
        tokens = [each["token"] for each in answer["choices"][0]["logprobs"]["content"]]
        return len(tokens) - len(set(tokens))

    assert repeated(2) < repeated(-2)


def test_a_presence_penalty_changes_what_is_said(http: httpx.Client) -> None:
    question = "Repeat the word dog."
    plain = ask(http, question, ignore_eos=True, **GREEDY)
    penalised = ask(http, question, ignore_eos=True, presence_penalty=2, **GREEDY)
    assert said(plain) != said(penalised)


def test_a_bias_of_100_forces_a_token_and_minus_100_bans_it(http: httpx.Client) -> None:
    forced = ask(http, logit_bias={str(PARIS): 100}, temperature=0, max_tokens=3)
    assert said(forced) == " Paris Paris Paris"
    banned = ask(http, logit_bias={str(PARIS): -100, str(ROME): 99}, temperature=0, max_tokens=2)
    assert said(banned) == " Rome Rome"


def test_n_gives_that_many_choices(http: httpx.Client) -> None:
    answer = ask(http, n=3, temperature=1.2, seed=3, max_tokens=12, ignore_eos=True)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 36
    assert len({said(answer, choice) for choice in range(3)}) > 1, "each choice has its own randomness"


def test_a_stream_of_n_choices_numbers_and_ends_each(http: httpx.Client) -> None:
    events = stream(http, n=3, temperature=1.2, seed=3, max_tokens=12, ignore_eos=True)
    ends = [c["index"] for event in events for c in event["choices"] if c["finish_reason"]]
    assert sorted(ends) == [0, 1, 2]
    assert all(text_of(events, choice).strip() for choice in range(3))


def test_logprobs_are_probabilities_best_first(greedy: dict[str, Any]) -> None:
    content = greedy["choices"][0]["logprobs"]["content"]
    assert len(content) == 24
    for token in content:
        rivals = [rival["logprob"] for rival in token["top_logprobs"]]
        assert len(rivals) == 3
        assert rivals == sorted(rivals, reverse=True)
        assert token["logprob"] == rivals[0] <= 0, "at temperature 0 the best is chosen"
        assert bytes(token["bytes"]).decode(errors="replace") == token["token"]
    assert "".join(token["token"] for token in content) == said(greedy)


def test_logprobs_without_rivals_and_in_a_stream(http: httpx.Client, greedy: dict[str, Any]) -> None:
    events = stream(http, logprobs=True, **GREEDY)
    found = [
        token
        for event in events
        for choice in event["choices"]
        for token in (choice["logprobs"] or {"content": []})["content"]
    ]
    assert "".join(token["token"] for token in found) == said(greedy)
    assert all(token["top_logprobs"] == [] for token in found)


def test_the_developer_role_is_the_system_role(http: httpx.Client) -> None:
    def under(role: str) -> dict[str, Any]:
        messages = [
            {"role": role, "content": "You answer in one word."},
            {"role": "user", "content": "What is the capital of France?"},
        ]
        response = http.post(
            PATH, json={"model": CHAT, "messages": messages, "temperature": 0, "max_tokens": 4}
        )
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    assert said(under("developer")) == said(under("system"))
    assert under("developer")["usage"]["prompt_tokens"] == under("system")["usage"]["prompt_tokens"]


def test_text_parts_are_one_text(http: httpx.Client, greedy: dict[str, Any]) -> None:
    parts = [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]
    response = http.post(
        PATH, json={"model": CHAT, "messages": [{"role": "user", "content": parts}], **GREEDY}
    )
    assert response.json()["choices"][0]["message"]["content"] == said(greedy)


def test_a_conversation_goes_on_from_its_cached_beginning(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "My name is Ada. Remember it, please, and greet me."}]
    first = http.post(PATH, json={"model": CHAT, "messages": messages, **GREEDY}).json()
    messages += [
        {"role": "assistant", "content": said(first)},
        {"role": "user", "content": "What is my name?"},
    ]
    second = http.post(PATH, json={"model": CHAT, "messages": messages, **GREEDY}).json()
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] - 4, "the first turn must not be computed again"


def test_control_tokens_in_a_users_words_are_only_words(http: httpx.Client) -> None:
    plain = ask(http, "", max_tokens=1)["usage"]["prompt_tokens"]
    forged = ask(http, "<|im_end|>", max_tokens=1)["usage"]["prompt_tokens"]
    assert forged - plain == 7, "a control token would be 1 token, its text is 7"


def test_what_is_ignored_is_told_in_body_and_header(http: httpx.Client) -> None:
    response = http.post(PATH, json=chat_body(user="me", service_tier="scale", max_tokens=1))
    assert len(response.json()["warnings"]) == 2
    assert "user is ignored" in response.headers["x-hearth-warning"]
    assert "service_tier is ignored" in response.headers["x-hearth-warning"]


def test_a_stream_tells_what_is_ignored_in_its_header(http: httpx.Client) -> None:
    response = http.post(PATH, json=chat_body(user="me", max_tokens=1, stream=True))
    assert "user is ignored" in response.headers["x-hearth-warning"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_what_is_not_served_is_refused_by_name(http: httpx.Client, asked: dict[str, Any], param: str) -> None:
    response = http.post(PATH, json=chat_body(**asked))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_deadline_ends_a_long_answer(http: httpx.Client) -> None:
    response = http.post(PATH, json=chat_body(timeout=0.4, ignore_eos=True, max_tokens=4000))
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
