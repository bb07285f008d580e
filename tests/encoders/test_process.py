"""The encoder process as the gateway meets it: a real process, real frames, real models."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from appliance import errors
from appliance.encoder import Server, default_batch_tokens, usable_cores
from appliance.launch import EncoderOrder
from appliance.records import (
    Cancel,
    Embed,
    Embeddings,
    Failed,
    Generate,
    Loading,
    Measure,
    Ready,
    Rerank,
    SamplingParams,
    Scores,
    Stop,
    TextPrompt,
    WorkerStats,
)

TEXT = "The quick brown fox jumps over the lazy dog. "


def kind_of(event: object) -> type[errors.HearthError]:
    assert isinstance(event, Failed)
    return type(errors.unpack(event.error))


def test_a_life_from_order_to_stop(start_encoder, minilm_model, reranker_model, minilm):
    encoder = start_encoder(EncoderOrder(models=(minilm_model, reranker_model)))
    loading = [encoder.receive() for _ in range(4)]
    assert loading == [Loading(model=m, fraction=f) for m in ("minilm", "reranker") for f in (0.0, 1.0)]
    ready = encoder.receive()
    assert isinstance(ready, Ready)
    assert [(facts.name, facts.role, facts.dimensions) for facts in ready.models] == [
        ("minilm", "embed", 384),
        ("reranker", "rerank", 0),
    ]

    texts = tuple(TEXT * (1 + n % 7) + str(n) for n in range(100))
    encoder.send(
        Embed(id=1, model="minilm", inputs=texts),
        Rerank(id=2, model="reranker", query="fox", documents=(TEXT, "nothing of the kind")),
        Embed(id=3, model="minilm", inputs=()),
        Measure(id=4),
        Stop(),
    )
    replies = {}
    for _ in range(4):
        event = encoder.receive()
        replies[event.id] = event
    vectors = np.frombuffer(replies[1].vectors, "<f4").reshape(100, 384)
    expected = minilm.run(minilm.prepare(Embed(id=1, model="minilm", inputs=texts[40:41])).rows)
    assert float(vectors[40] @ expected[0]) > 0.99
    assert np.argmax(vectors @ vectors[40]) == 40
    assert isinstance(replies[2], Scores)
    assert replies[2].logits[0] > replies[2].logits[1]
    assert replies[3] == Embeddings(id=3, vectors=b"", dimensions=384, tokens=0)
    assert isinstance(replies[4], WorkerStats)
    assert encoder.at_end()
    assert encoder.process.wait(10) == 0


def test_a_query_overtakes_a_large_request(start_encoder, minilm_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model,)))
    encoder.wait_ready()
    encoder.send(
        Embed(id=1, model="minilm", inputs=(TEXT * 10,) * 60), Embed(id=2, model="minilm", inputs=("fox",))
    )
    assert [encoder.receive().id for _ in range(2)] == [2, 1]


def test_a_cancelled_request_ends_at_once_and_only_it(start_encoder, minilm_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model,)))
    encoder.wait_ready()
    encoder.send(
        Embed(id=1, model="minilm", inputs=(TEXT * 10,) * 2000),
        Embed(id=2, model="minilm", inputs=(TEXT,) * 100),
        Cancel(id=1),
        Cancel(id=77),
        Embed(id=3, model="minilm", inputs=("fox",)),
    )
    replies = [encoder.receive() for _ in range(3)]
    assert kind_of(next(reply for reply in replies if reply.id == 1)) is errors.Cancelled
    assert {type(reply) for reply in replies if reply.id != 1} == {Embeddings}
    encoder.send(Measure(id=4))
    stats = encoder.receive()
    assert isinstance(stats, WorkerStats)
    assert (stats.running, stats.waiting, stats.cells_used) == (0, 0, 0)
    assert stats.steps < 50  # 2,000 texts would have taken hundreds


def test_errors_are_typed_and_answer_their_own_request(start_encoder, minilm_model, reranker_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model, reranker_model)))
    encoder.wait_ready()
    encoder.send(
        Embed(id=1, model="nothing", inputs=("a",)),
        Embed(id=2, model="reranker", inputs=("a",)),
        Rerank(id=3, model="minilm", query="a", documents=("b",)),
        Embed(id=4, model="minilm", inputs=("fine", TEXT * 100)),
        Generate(id=5, prompt=TextPrompt(text="a"), sampling=SamplingParams()),
        Embed(id=6, model="minilm", inputs=("fine",)),
    )
    replies = {}
    for _ in range(6):
        event = encoder.receive()
        replies[event.id] = event
    assert {id: kind_of(replies[id]) for id in range(1, 6)} == {
        1: errors.ModelNotFound,
        2: errors.InvalidValue,
        3: errors.InvalidValue,
        4: errors.ContextLengthExceeded,
        5: errors.InternalError,
    }
    assert replies[4].error["param"] == "input[1]"
    assert isinstance(replies[6], Embeddings)


def test_a_full_queue_refuses_with_a_time_to_come_back(start_encoder, minilm_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model,), queue_requests=4))
    encoder.wait_ready()
    encoder.send(*(Embed(id=id, model="minilm", inputs=(TEXT * 5,) * 40) for id in range(1, 21)))
    replies = [encoder.receive() for _ in range(20)]
    assert sorted(reply.id for reply in replies) == list(range(1, 21))
    refused = [reply for reply in replies if isinstance(reply, Failed)]
    assert refused
    assert len(refused) < 20
    for reply in refused:
        assert kind_of(reply) is errors.Overloaded
        assert 1 <= reply.error["retry_after"] <= 60


def test_requests_after_stop_are_refused_and_those_before_finish(start_encoder, minilm_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model,)))
    encoder.wait_ready()
    encoder.send(
        Embed(id=1, model="minilm", inputs=(TEXT * 10,) * 60),
        Stop(),
        Embed(id=2, model="minilm", inputs=("late",)),
    )
    replies = {}
    for _ in range(2):
        event = encoder.receive()
        replies[event.id] = event
    assert isinstance(replies[1], Embeddings)
    assert kind_of(replies[2]) is errors.Draining
    assert encoder.at_end()
    assert encoder.process.wait(10) == 0


def test_the_process_leaves_when_the_gateway_does(start_encoder, minilm_model):
    encoder = start_encoder(EncoderOrder(models=(minilm_model,)))
    encoder.wait_ready()
    encoder.send(Embed(id=1, model="minilm", inputs=(TEXT * 10,) * 2000))
    encoder.hang_up()
    assert encoder.process.wait(10) == 0


def test_a_model_that_cannot_be_loaded_is_told_before_leaving(start_encoder, minilm_model):
    broken = msgspec.structs.replace(minilm_model, weights="/nonexistent/model.onnx")
    encoder = start_encoder(EncoderOrder(models=(broken,)))
    failed = encoder.wait_ready()
    assert failed.id == 0
    assert kind_of(failed) is errors.SetupError
    assert "/nonexistent/model.onnx" in str(failed.error["message"])
    assert encoder.process.wait(10) == 1


def test_a_request_that_breaks_a_batch_fails_alone(minilm):
    sent = []
    server = Server(EncoderOrder(models=()), {"minilm": minilm}, sent.append)
    server.inbox.put(Embed(id=1, model="minilm", inputs=("fine",)))
    server.inbox.put(Embed(id=2, model="minilm", inputs=("broken",)))
    server.inbox.put(Stop())
    for _ in range(3):
        server._handle(server.inbox.get())
    # An id beyond the embedding table: refused by prepare, so it has to be put in behind its back.
    server._jobs[2].work.rows[0].tokens[1] = 1_000_000
    assert server.serve() == 0
    replies = {event.id: event for event in sent}
    assert isinstance(replies[1], Embeddings)
    assert kind_of(replies[2]) is errors.InternalError


@pytest.mark.parametrize(("threads", "tokens"), [(1, 512), (2, 512), (16, 4096)])
def test_batches_grow_with_threads(threads, tokens):
    assert default_batch_tokens(threads) == tokens
    assert usable_cores() >= 1
