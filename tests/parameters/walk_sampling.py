"""The parameters of sampling that several surfaces have: what they do to an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.parameters.asking import COLD
from tests.parameters.walker import WALKS, Walker

CHAT_PATH, TEXT_PATH, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, OLLAMA_CHAT, OLLAMA_TEXT = "/v1/messages", "/api/chat", "/api/generate"
END_OF_TURN = "2"  # the token that ends an answer of the models tested with


class Surface(NamedTuple):
    """Where an answer has its text and its count of tokens, and what the surface calls `max_tokens`."""

    path: str
    text: Callable[[Any], str]
    count: Callable[[Any], int]
    most: str = "max_tokens"
    hottest: float = 2.0
    in_options: bool = False

    def told(self, **changes: Any) -> dict[str, Any]:
        """`changes` as the surface wants them."""
        named = {self.most if name == "most" else name: value for name, value in changes.items()}
        return {"options": COLD | named} if self.in_options else named

    def say(self, w: Walker, **changes: Any) -> str:
        return self.text(w.ask(self.path, **self.told(**changes)))


def _output_text(answer: Any) -> str:
    return str(answer["output"][-1]["content"][0]["text"])


SURFACES = {
    surface.path: surface
    for surface in (
        Surface(
            CHAT_PATH,
            lambda a: a["choices"][0]["message"]["content"],
            lambda a: a["usage"]["completion_tokens"],
        ),
        Surface(TEXT_PATH, lambda a: a["choices"][0]["text"], lambda a: a["usage"]["completion_tokens"]),
        Surface(RESPONSES, _output_text, lambda a: a["usage"]["output_tokens"], "max_output_tokens"),
        Surface(
            MESSAGES, lambda a: a["content"][0]["text"], lambda a: a["usage"]["output_tokens"], hottest=1.0
        ),
        Surface(
            OLLAMA_CHAT,
            lambda a: a["message"]["content"],
            lambda a: a["eval_count"],
            "num_predict",
            in_options=True,
        ),
        Surface(
            OLLAMA_TEXT, lambda a: a["response"], lambda a: a["eval_count"], "num_predict", in_options=True
        ),
    )
}

Concept = Callable[[Walker, Surface], None]


def most(w: Walker, s: Surface) -> None:
    for count in (2, 5):
        assert s.count(w.ask(s.path, **s.told(most=count))) == count


def temperature(w: Walker, s: Surface) -> None:
    cold, hot = s.say(w, most=40), s.say(w, most=40, temperature=s.hottest)
    assert cold != hot


def _narrowed(name: str, value: float) -> Concept:
    """Hot as the draws are, there is one candidate left: the coldest."""

    def walk(w: Walker, s: Surface) -> None:
        assert s.say(w, temperature=s.hottest, **{name: value}) == s.say(w)

    return walk


def seed(w: Walker, s: Surface) -> None:
    """A small model's near ties may flip between two askings of one seed, but seldom so soon."""
    same = [s.say(w, most=3, temperature=2, seed=7) for _ in range(3)]
    assert len(set(same)) < 3
    assert len({s.say(w, most=10, temperature=2, seed=number) for number in (1, 2, 3)}) > 1


def stop(w: Walker, s: Surface) -> None:
    name = "stop_sequences" if s.path == MESSAGES else "stop"
    cold = s.say(w)
    word = cold[5:9]
    assert s.say(w, **{name: [word, "never said"]}) == cold[: cold.index(word)]


def _penalised(name: str, *values: float) -> Concept:
    def walk(w: Walker, s: Surface) -> None:
        cold = s.say(w, most=60)
        assert any(s.say(w, most=60, **{name: each}) != cold for each in values)

    return walk


def logit_bias(w: Walker, s: Surface) -> None:
    piece = w.ask("/detokenize", tokens=[504])["content"]
    assert s.say(w, most=3, logit_bias={"504": 100}) == piece * 3


def n(w: Walker, s: Surface) -> None:
    choices = w.ask(s.path, n=3)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]


def stream(w: Walker, s: Surface) -> None:
    media = "application/x-ndjson" if s.in_options else "text/event-stream"
    assert w.send(s.path, stream=True).headers["content-type"].startswith(media)
    assert w.send(s.path, stream=False).headers["content-type"] == "application/json"


def stream_options(w: Walker, s: Surface) -> None:
    lines = w.send(s.path, stream=True, stream_options={"include_usage": True}).text.splitlines()
    last = [line for line in lines if line.startswith("data: {")][-1]
    assert json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"] == 6
    plain = w.send(s.path, stream=True).text
    assert '"usage":{' not in plain.replace(" ", "")
    w.refused(s.path, "stream_options needs", stream_options={"include_usage": True})


def ignore_eos(w: Walker, s: Surface) -> None:
    ends = {"logit_bias": {END_OF_TURN: 100}}
    assert w.ask(s.path, **ends)["choices"][0]["finish_reason"] == "stop"
    assert w.ask(s.path, ignore_eos=True, **ends)["choices"][0]["finish_reason"] == "length"


def deterministic(w: Walker, s: Surface) -> None:
    assert "seed fixes the draws" in w.warned(s.path, seed=3)
    assert w.warned(s.path, seed=3, deterministic=True) == ""


def timeout(w: Walker, s: Surface) -> None:
    w.refused(s.path, "the request's", 504, timeout=0.001, **s.told(most=200))


def regex(w: Walker, s: Surface) -> None:
    assert s.say(w, regex="[0-9]{3}").isdigit()
    w.refused(s.path, "regex", regex="(")


def grammar(w: Walker, s: Surface) -> None:
    assert s.say(w, grammar='start: "yes" | "no"') in ("yes", "no")
    w.refused(s.path, "grammar", grammar="start: nothing")


def keep_alive(w: Walker, s: Surface) -> None:
    model = w.ask(s.path, keep_alive="10m")["model"]
    found = {each["name"]: each["expires_at"] for each in w.get("/api/ps")["models"]}
    w.ask(s.path, keep_alive=-1)
    kept = {each["name"]: each["expires_at"] for each in w.get("/api/ps")["models"]}
    assert found[model] < kept[model]


SHARED: dict[str, Concept] = {
    "temperature": temperature,
    "top_p": _narrowed("top_p", 1e-6),
    "top_k": _narrowed("top_k", 1),
    "min_p": _narrowed("min_p", 1.0),
    "seed": seed,
    "stop": stop,
    "stop_sequences": stop,
    "presence_penalty": _penalised("presence_penalty", 2, -2),
    "frequency_penalty": _penalised("frequency_penalty", 2),
    "repeat_penalty": _penalised("repeat_penalty", 5),
    "logit_bias": logit_bias,
    "n": n,
    "stream": stream,
    "stream_options": stream_options,
    "stream_options.include_usage": stream_options,
    "ignore_eos": ignore_eos,
    "deterministic": deterministic,
    "timeout": timeout,
    "regex": regex,
    "grammar": grammar,
    "keep_alive": keep_alive,
    "max_tokens": most,
    "max_completion_tokens": most,
    "max_output_tokens": most,
    "num_predict": most,
}


def _bound(concept: Concept, *surfaces: Surface) -> Callable[[Walker], None]:
    def walk(w: Walker) -> None:
        for surface in surfaces:
            concept(w, surface)

    return walk


SAMPLED = {
    CHAT_PATH: [
        name for name in SHARED if name not in ("stop_sequences", "max_output_tokens", "num_predict")
    ],
    TEXT_PATH: [name for name in SHARED if not name.startswith(("stop_", "num_", "max_", "stream_options."))]
    + ["max_tokens"],
    RESPONSES: "temperature top_p top_k min_p repeat_penalty seed stream timeout max_output_tokens".split(),
    MESSAGES: "temperature top_p top_k stop_sequences stream timeout max_tokens".split(),
    OLLAMA_CHAT: ["stream", "keep_alive"],
    OLLAMA_TEXT: ["stream", "keep_alive"],
}
OPTIONS = (
    "num_predict temperature top_k top_p min_p seed stop repeat_penalty presence_penalty frequency_penalty"
)

for path, names in SAMPLED.items():
    for name in names:
        WALKS[path, name] = _bound(SHARED[name], SURFACES[path])
for name in OPTIONS.split():
    WALKS["/api/chat and /api/generate", f"options.{name}"] = _bound(
        SHARED[name], SURFACES[OLLAMA_CHAT], SURFACES[OLLAMA_TEXT]
    )
