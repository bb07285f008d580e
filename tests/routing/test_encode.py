"""Embeddings and rerank that may go online: what is sent, what is believed, and who answers when it fails."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.errors import HearthError, InvalidValue, Unavailable
from appliance.records import SamplingParams, TextPrompt
from appliance.routing.encoding_wire import embed_body, read_embeddings, read_ranking, rerank_body
from appliance.routing.failure import UpstreamFailure
from appliance.routing.local import local_model
from appliance.routing.registry import Model
from appliance.routing.request import Route, RoutedRequest
from appliance.routing.router import Router
from appliance.routing.upstream import Upstream
from tests.routing.conftest import closers, platform, routing, run
from tests.routing.peers import HOME, Counter, anywhere
from tests.upstream.behaviour import Behaviour
from tests.upstream.service import Service

START = Callable[..., Service]


def json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def rows(*vectors: list[float]) -> bytes:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return json({"data": data[::-1], "usage": {"prompt_tokens": 5}})


def test_bodies_say_what_is_asked() -> None:
    assert msgspec.json.decode(embed_body("e", ("a", "b"), 64)) == {
        "model": "e",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 64,
    }
    assert msgspec.json.decode(rerank_body("r", "q", ("a", "b")))["top_n"] == 2


def test_vectors_come_in_order_whatever_theirs_was() -> None:
    found, tokens = read_embeddings(rows([1.0, 2.0], [3.0, 4.0]), 2)
    assert list(array("f", found.vectors)) == [1.0, 2.0, 3.0, 4.0]
    assert (found.dimensions, tokens) == (2, 5)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"<html>",
        rows([1.0]),
        rows([1.0], [1.0, 2.0]),
        rows([], []),
        rows([1.0], [1e300]),
        json({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}),
        json({"data": [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}),
    ],
)
def test_vectors_that_cannot_be_right_are_garbage(body: bytes) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        read_embeddings(body, 2)
    assert caught.value.kind == "garbage"


def test_relevance_becomes_the_logit_that_gives_it() -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5, "logit": 0.25}]
    found, _ = read_ranking(json({"results": results}), 2)
    assert found.logits == pytest.approx((0.25, math.log(9)))
    sure, _ = read_ranking(json({"results": [{"index": 0, "relevance_score": 1}]}), 1)
    assert sure.logits == pytest.approx((30.0,), rel=1e-3)
    for wrong in ([{"index": 0, "relevance_score": 7}], [{"index": 3, "relevance_score": 0.5}], []):
        with pytest.raises(UpstreamFailure):
            read_ranking(json({"results": wrong}), 1)


class Asked:
    """One call through a router with an online and a local model of `role`."""

    def __init__(self, service: Service, role: str, error: HearthError | None = None) -> None:
        online = platform("cloud", service, model={"role": role})
        rule = {"task": role, "policy": "online-first"}
        here = local_model("here", role, context_length=0, quality=10)  # type: ignore[arg-type]
        self.counter = Counter()
        self.router = Router(
            routing(online, rules=[rule], retry_jitter=0),
            {"here": (here, None)},
            check=anywhere,
            directory=HOME,
            environment={},
            observer=self.counter,
        )
        (upstream,) = self.router._setup.candidates.upstreams.values()
        closers.append(upstream.close)
        self.role, self.error = role, error

    async def ask(self, model: str) -> tuple[Any, Route]:
        async def local(model: Model) -> tuple[str, int]:
            if self.error is not None:
                raise self.error
            return model.public_name, 3

        async def online(upstream: Upstream, model: Model) -> tuple[str, int]:
            await upstream.ask("/embeddings", b"{}", 5)
            return model.public_name, 3

        request = RoutedRequest(
            model=model,
            prompt=TextPrompt(text="a"),
            sampling=SamplingParams(max_tokens=1),
            task=self.role,  # type: ignore[arg-type]
        )
        call = self.router.open_call(request, local=local, online=online)
        try:
            return await call.run(), call.route
        except HearthError as error:
            return error, call.route


def test_an_online_rerank_that_fails_is_done_here(start_service: START) -> None:
    asked = Asked(start_service(Behaviour(status=500)), "rerank")
    result, route = run(asked.ask("cloud"))
    assert (result, route.is_local) == ("here", True)
    assert [attempt.outcome for attempt in route.attempts] == ["server_error", "ok"]
    assert len(asked.counter.answers) == 1


def test_an_online_rerank_is_done_there(start_service: START) -> None:
    result, route = run(Asked(start_service(), "rerank").ask("cloud"))
    assert (result, route.name, route.cost) == ("cloud", "online", pytest.approx(3e-6))


def test_an_embedding_never_moves_to_another_model(start_service: START) -> None:
    result, route = run(Asked(start_service(Behaviour(status=500)), "embed").ask("cloud"))
    assert isinstance(result, Unavailable)
    assert [attempt.model for attempt in route.attempts] == ["cloud"]


def test_what_the_local_model_refuses_is_told_as_it_is(start_service: START) -> None:
    asked = Asked(start_service(), "embed", InvalidValue("too wide", param="dimensions"))
    result, _ = run(asked.ask("here"))
    assert isinstance(result, InvalidValue)
    assert result.param == "dimensions"
