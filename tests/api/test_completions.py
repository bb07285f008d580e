"""POST /v1/completions: text and token ids, one prompt and several, whole and streamed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import CHAT, events_of, text_of

PATH = "/v1/completions"
FRANCE, FRANCE_IDS = "The capital of France is", [504, 3575, 282, 4649, 314]
ITALY = "The capital of Italy is"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 4}


def complete(http: httpx.Client, prompt: Any, **parameters: Any) -> dict[str, Any]:
    response = http.post(PATH, json={"model": CHAT, "prompt": prompt, **GREEDY, **parameters})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def texts(answer: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


def test_a_text_is_continued(http: httpx.Client) -> None:
    answer = complete(http, FRANCE)
    assert texts(answer)[0].startswith(" Paris")
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["prompt_tokens"] == 5


def test_token_ids_are_the_same_prompt(http: httpx.Client) -> None:
    assert texts(complete(http, FRANCE_IDS)) == texts(complete(http, FRANCE))


def test_several_prompts_answer_in_their_order(http: httpx.Client) -> None:
    answer = complete(http, [FRANCE, ITALY])
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert texts(answer)[0].startswith(" Paris")
    assert texts(answer)[1].startswith(" Rome")
    assert answer["usage"]["completion_tokens"] == 8


def test_lists_of_token_ids_are_several_prompts(http: httpx.Client) -> None:
    first, second = texts(complete(http, [FRANCE_IDS, FRANCE_IDS[:4]]))
    assert first.startswith(" Paris")
    assert second != first


def test_n_choices_of_each_prompt_are_numbered_through(http: httpx.Client) -> None:
    answer = complete(http, [FRANCE, ITALY], n=2)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert all(text.startswith(" Paris") for text in texts(answer)[:2])
    assert all(text.startswith(" Rome") for text in texts(answer)[2:])


def test_a_stream_of_several_prompts_numbers_their_choices(http: httpx.Client) -> None:
    body = {
        "model": CHAT,
        "prompt": [FRANCE, ITALY],
        "stream": True,
        "stream_options": {"include_usage": True},
        **GREEDY,
    }
    events = events_of(http.post(PATH, json=body))
    assert [text_of(events, choice) for choice in (0, 1)] == texts(complete(http, [FRANCE, ITALY]))
    ends = [c["index"] for event in events for c in event["choices"] if c["finish_reason"] == "length"]
    assert sorted(ends) == [0, 1]
    assert events[-1]["usage"]["completion_tokens"] == 8


def test_sixteen_tokens_are_the_default(http: httpx.Client) -> None:
    answer = complete(http, FRANCE, max_tokens=None, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("streamed", [False, True])
def test_logprobs_line_up_with_the_text(http: httpx.Client, streamed: bool) -> None:
    if streamed:
        body = {"model": CHAT, "prompt": FRANCE, "logprobs": 2, "stream": True, **GREEDY}
        events = events_of(http.post(PATH, json=body))
        text, found = text_of(events), [e["choices"][0]["logprobs"] for e in events]
        merged = {name: [v for each in found if each for v in each[name]] for name in found[0]}
    else:
        answer = complete(http, FRANCE, logprobs=2)
        text, merged = texts(answer)[0], answer["choices"][0]["logprobs"]
    assert "".join(merged["tokens"]) == text
    ends = [
        offset + len(token) for offset, token in zip(merged["text_offset"], merged["tokens"], strict=True)
    ]
    assert merged["text_offset"] == [0, *ends[:-1]]
    for token, logprob, rivals in zip(
        merged["tokens"], merged["token_logprobs"], merged["top_logprobs"], strict=True
    ):
        assert len(rivals) == 2
        assert rivals[token] == logprob == max(rivals.values())


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ("", "prompt"),
        ([], "prompt"),
        ([FRANCE, 504], "prompt"),
        ([FRANCE, [504]], "prompt"),
        ([[504], []], "prompt[1]"),
        ([504, -1], "prompt[1]"),
        ([504, 49_152], "prompt[1]"),
        ([FRANCE] * 65, "prompt"),
        (None, "prompt"),
        ({"text": FRANCE}, "prompt"),
    ],
)
def test_a_wrong_prompt_is_refused_by_place(http: httpx.Client, prompt: Any, param: str) -> None:
    response = http.post(PATH, json={"model": CHAT, "prompt": prompt})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("asked", [{"echo": True}, {"best_of": 2}, {"suffix": "."}])
def test_what_is_not_served_is_refused_by_name(http: httpx.Client, asked: dict[str, Any]) -> None:
    response = http.post(PATH, json={"model": CHAT, "prompt": FRANCE, **asked})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_parameter"
    assert response.json()["error"]["param"] in asked
