"""/v1/chat/completions, kept answers, and what is special in /v1/completions and /v1/embeddings."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from tests.parameters.asking import FUNCTION, MONTHS, SAID, SCHEMA
from tests.parameters.walk_sampling import CHAT_PATH as CHAT
from tests.parameters.walk_sampling import TEXT_PATH as TEXT
from tests.parameters.walker import Walker, walks
from tests.serving import CHAT as MODEL
from tests.serving import EMBED, MULTILINGUAL

STORED = "/v1/chat/completions/{completion_id}"
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
}
CALLED = [*SAID, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
ANSWERED = [*CALLED, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]


def said(role: str, content: Any = "Yes.", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def size(w: Walker, **changes: Any) -> int:
    """How many tokens the prompt has."""
    return int(w.ask(CHAT, **{"max_tokens": 1} | changes)["usage"]["prompt_tokens"])


def message(w: Walker, **changes: Any) -> Any:
    return w.ask(CHAT, **{"max_tokens": 60} | changes)["choices"][0]["message"]


@walks(CHAT, "model")
def model(w: Walker) -> None:
    assert w.ask(CHAT)["model"] == MODEL
    w.refused(CHAT, "there is no model 'nobody'", 404, model="nobody")


@walks(CHAT, "messages", "messages[].role", "messages[].content")
def messages(w: Walker) -> None:
    plain = size(w)
    assert size(w, messages=[said("system", "Be brief."), *SAID]) != plain
    assert size(w, messages=[said("developer", "Be brief."), *SAID]) == size(
        w, messages=[said("system", "Be brief."), *SAID]
    )
    assert size(w, messages=[*SAID, said("assistant"), *SAID]) > plain
    w.refused(CHAT, "messages[0].role", messages=[said("narrator")])
    w.refused(CHAT, "messages[0].content", messages=[{"role": "user"}])


@walks(CHAT, "messages[].content[].type", "messages[].content[].text")
def parts(w: Walker) -> None:
    pieces = [{"type": "text", "text": MONTHS[:8]}, {"type": "text", "text": MONTHS[8:]}]
    assert size(w, messages=[said("user", pieces)]) == size(w, messages=[said("user", MONTHS)])
    w.refused(CHAT, "messages[0].content[0].type", messages=[said("user", [{"type": "video"}])])
    w.refused(CHAT, "messages[0].content[0].text", messages=[said("user", [{"type": "text"}])])


@walks(CHAT, "messages[].content[].image_url")
def image_url(w: Walker) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    w.refused(CHAT, "cannot do vision", messages=[said("user", [part])])
    w.refused(CHAT, "image_url.url", messages=[said("user", [part | {"image_url": {"url": "file:///x"}}])])


@walks(CHAT, "messages[].name")
def name(w: Walker) -> None:
    assert "name is ignored" in w.warned(CHAT, messages=[said("user", name="ada")])
    w.refused(CHAT, "messages[0].name", messages=[said("function")])


@walks(CHAT, "messages[].tool_calls", "messages[].tool_call_id", "messages[].function_call")
def calls(w: Walker) -> None:
    assert size(w, messages=ANSWERED, tools=TOOLS) > size(w, messages=CALLED, tools=TOOLS) > size(w)
    old = {"name": "get_weather", "arguments": "{}"}
    answered = [*SAID, said("assistant", None, function_call=old), said("function", name="get_weather")]
    assert size(w, messages=answered) > size(w)
    w.refused(CHAT, "messages[1].tool_call_id", messages=[*SAID, said("tool")])
    w.refused(CHAT, "messages[0].tool_calls", messages=[said("user", tool_calls=[CALL])])
    w.refused(CHAT, "messages[0].function_call", messages=[said("user", function_call=old)])


@walks(CHAT, "messages[].reasoning_content")
def reasoning_content(w: Walker) -> None:
    thought = said("assistant", reasoning_content="Hm.")
    assert "reasoning_content is ignored" in w.warned(CHAT, messages=[*SAID, thought, *SAID])
    w.refused(CHAT, "messages[0].reasoning_content", messages=[said("user", reasoning_content="Hm.")])


@walks(CHAT, "logprobs", "top_logprobs")
def logprobs(w: Walker) -> None:
    told = w.ask(CHAT, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
    assert [len(each["top_logprobs"]) for each in told] == [3] * 6
    assert w.ask(CHAT)["choices"][0]["logprobs"] is None
    w.refused(CHAT, "logprobs: true", top_logprobs=3)


@walks(CHAT, "chat_template_kwargs")
def chat_template_kwargs(w: Walker) -> None:
    w.refused(CHAT, "has no option 'enable_thinking'", chat_template_kwargs={"enable_thinking": False})
    assert w.ask(CHAT, chat_template_kwargs={})


@walks(CHAT, "reasoning_effort")
def reasoning_effort(w: Walker) -> None:
    assert "reasoning_effort is ignored" in w.warned(CHAT, reasoning_effort="high")
    assert w.warned(CHAT, reasoning_effort="none") == ""


@walks(
    CHAT,
    "tools",
    "tool_choice",
    "tools[].function.name",
    "tools[].function.description",
    "tools[].function.parameters",
    "tools[].function.strict",
)
def tools(w: Walker) -> None:
    (call,) = message(w, tools=TOOLS, tool_choice="required")["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}
    assert "tool_calls" not in message(w, tools=TOOLS, tool_choice="none")
    strict = [{"type": "function", "function": FUNCTION | {"strict": True}}]
    assert message(w, tools=strict, tool_choice="required")["tool_calls"]
    wordier = [{"type": "function", "function": FUNCTION | {"description": "The weather " * 9}}]
    assert size(w, tools=wordier) > size(w, tools=TOOLS) > size(w)
    w.refused(CHAT, "tool_choice", tool_choice="required")
    w.refused(CHAT, "function.name", tools=[{"type": "function", "function": {"name": "a b"}}])
    w.refused(CHAT, "is given twice", tools=TOOLS * 2)
    listed = FUNCTION | {"parameters": {"type": "array"}}
    w.refused(CHAT, "function.parameters", tools=[{"type": "function", "function": listed}])


@walks(CHAT, "parallel_tool_calls")
def parallel_tool_calls(w: Walker) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 100}
    assert len(message(w, parallel_tool_calls=True, **asked)["tool_calls"]) > 1
    assert len(message(w, parallel_tool_calls=False, **asked)["tool_calls"]) == 1


@walks(CHAT, "functions", "function_call")
def functions(w: Walker) -> None:
    made = message(w, functions=[FUNCTION], function_call={"name": "get_weather"})
    assert made["function_call"]["name"] == "get_weather"
    assert "function_call" not in message(w, functions=[FUNCTION], function_call="none")
    w.refused(CHAT, "give one of them", functions=[FUNCTION], tools=TOOLS)


@walks(CHAT, "response_format", "response_format.type", "response_format.json_schema")
def response_format(w: Walker) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    assert set(json.loads(message(w, response_format=form)["content"])) == {"city"}
    assert isinstance(json.loads(message(w, response_format={"type": "json_object"})["content"]), dict)
    assert message(w, response_format={"type": "text"}) == message(w)
    w.refused(CHAT, "json_schema", response_format={"type": "json_schema"})


@walks(CHAT, "store", "metadata")
def store(w: Walker) -> None:
    kept = w.ask(CHAT, store=True, metadata={"walk": "chat"})["id"]
    assert w.get(f"{CHAT}/{kept}")["metadata"] == {"walk": "chat"}
    assert kept in [each["id"] for each in w.get(CHAT, **{"metadata[walk]": "chat"})["data"]]
    lost = w.ask(CHAT, store=False)["id"]
    assert w.http.get(f"{CHAT}/{lost}").status_code == 404
    assert "metadata is ignored" in w.warned(CHAT, metadata={"walk": "chat"})


@walks(STORED, "metadata")
def stored_metadata(w: Walker) -> None:
    kept = w.ask(CHAT, store=True, metadata={"walk": "old"})["id"]
    assert w.ask(f"{CHAT}/{kept}", metadata={"walk": "new"})["metadata"] == {"walk": "new"}
    assert w.get(f"{CHAT}/{kept}")["metadata"] == {"walk": "new"}


@walks(CHAT, "continue_final_message")
def continue_final_message(w: Walker) -> None:
    begun = [*SAID, said("assistant", "The months of the year are January, February,")]
    assert "March" in message(w, messages=begun, continue_final_message=True, max_tokens=6)["content"]
    w.refused(CHAT, "continue_final_message needs", continue_final_message=True)


@walks(CHAT, "knowledge")
def knowledge(w: Walker) -> None:
    w.refused(CHAT, "there is no knowledge base 'nobody'", 404, knowledge="nobody")
    base = w.ask("/v1/vector_stores", name="of chat", embedder=EMBED)["id"]
    assert w.ask(CHAT, knowledge=base)["choices"]
    w.http.delete(f"/v1/vector_stores/{base}")


@walks(TEXT, "model")
def text_model(w: Walker) -> None:
    assert w.ask(TEXT)["model"] == MODEL
    w.refused(TEXT, "a model for embed", model=EMBED)


@walks(TEXT, "prompt")
def prompt(w: Walker) -> None:
    france = "The capital of France is"
    ids = w.ask("/tokenize", content=france)["tokens"]
    texts = [w.ask(TEXT, prompt=each)["choices"][0]["text"] for each in (france, ids, [ids])]
    assert all(text.startswith(" Paris") for text in texts)
    assert "Paris" not in w.ask(TEXT)["choices"][0]["text"]
    assert len(w.ask(TEXT, prompt=["One,", "Two,"])["choices"]) == 2


@walks(TEXT, "logprobs")
def text_logprobs(w: Walker) -> None:
    told = w.ask(TEXT, logprobs=2)["choices"][0]["logprobs"]
    assert len(told["tokens"]) == len(told["top_logprobs"]) == 6
    assert all(len(each) == 2 for each in told["top_logprobs"])


@walks("/v1/embeddings", "model", "input", "dimensions", "encoding_format", "input_type")
def embeddings(w: Walker) -> None:
    path = "/v1/embeddings"
    plain = w.ask(path)["data"][0]["embedding"]
    assert len(plain) == 384
    raw = base64.b64decode(w.ask(path, encoding_format="base64")["data"][0]["embedding"])
    assert list(struct.unpack("<384f", raw)) == plain
    assert len(w.ask(path, input=["a cat", "a dog"])["data"]) == 2
    w.refused(path, "always gives 384 dimensions", dimensions=64)
    assert w.ask(path, dimensions=384)["data"][0]["embedding"] == plain
    as_query, as_passage = (
        w.ask(path, model=MULTILINGUAL, input_type=kind)["data"][0]["embedding"]
        for kind in ("query", "passage")
    )
    assert as_query != as_passage
    w.refused(path, "nobody", 404, model="nobody")
    w.refused(path, "input is empty", input="")
