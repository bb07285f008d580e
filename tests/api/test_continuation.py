"""`continue_final_message`: the answer goes on from the last message, and only what follows is given."""

from __future__ import annotations

import httpx
import pytest

from tests.serving import CHAT, chat_body, events_of

QUESTION = [{"role": "user", "content": "Count from one to twenty in words."}]


def test_an_answer_that_is_cut_and_continued_is_the_answer(http: httpx.Client) -> None:
    whole = {"temperature": 0, "max_tokens": 16}
    with http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True, **whole)) as response:
        deltas = [event["choices"][0]["delta"] for event in events_of(response)]
    pieces = [delta["content"] for delta in deltas if delta.get("content")]
    assert len(pieces) > 8
    said, rest = "".join(pieces[:6]), "".join(pieces[6:])
    body = chat_body(**whole | {"max_tokens": 10})
    body["messages"].append({"role": "assistant", "content": said})
    answer = http.post("/v1/chat/completions", json=body | {"continue_final_message": True}).json()
    assert rest.startswith(answer["choices"][0]["message"]["content"])
    assert len(answer["choices"][0]["message"]["content"]) > 5


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"messages": QUESTION}, "role assistant"),
        ({"messages": [{"role": "assistant", "content": "One"}]}, "a message before"),
        ({"response_format": {"type": "json_object"}}, "form of the whole answer"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "tool_choice": "required",
            },
            "forced tool call",
        ),
    ],
)
def test_what_cannot_be_continued_is_refused(
    http: httpx.Client, extra: dict[str, object], words: str
) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "One, two,"}]
    body = {"model": CHAT, "messages": messages, "continue_final_message": True} | extra
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("continue_final_message", "invalid_value")
    assert words in error["message"]
