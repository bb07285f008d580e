from __future__ import annotations

import msgspec
import numpy as np
import pytest

from appliance.encoders.embed import Embedder, mean_pool, normalized
from appliance.errors import ContextLengthExceeded, InvalidValue, UnsupportedParameter
from appliance.records import Embed, Embeddings

ENGLISH = [
    "How do I reset my password?",
    "I forgot my login secret, how can I change it?",
    "Bananas are yellow.",
]
CHINESE = ["怎么重置密码？", "我忘记了登录口令，如何修改？", "香蕉是黄色的。"]


def embed(embedder: Embedder, *inputs: str | tuple[int, ...], **options: object) -> np.ndarray:
    reply = answer(embedder, *inputs, **options)
    return np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), reply.dimensions)


def answer(embedder: Embedder, *inputs: str | tuple[int, ...], **options: object) -> Embeddings:
    command = Embed(id=1, model="m", inputs=inputs, **options)
    work = embedder.prepare(command)
    return embedder.reply(command, work, embedder.run(work.rows))


def test_the_mean_leaves_padding_out():
    hidden = np.array([[[1, 2], [3, 4], [99, 99]], [[5, 6], [7, 8], [9, 10]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    np.testing.assert_allclose(mean_pool(hidden, mask), [[2, 3], [7, 8]])


def test_normalizing_keeps_the_direction():
    np.testing.assert_allclose(normalized(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize(
    ("model", "texts"),
    [("minilm", ENGLISH), ("e5", ENGLISH), ("e5", CHINESE), ("e5", [ENGLISH[0], CHINESE[1], CHINESE[2]])],
)
def test_paraphrases_are_nearest(request, model, texts):
    vectors = embed(request.getfixturevalue(model), *texts)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.05
    assert likeness[0, 1] > likeness[1, 2]


@pytest.mark.parametrize("model", ["minilm", "e5"])
def test_a_vector_does_not_depend_on_its_batch(request, model):
    embedder = request.getfixturevalue(model)
    alone = embed(embedder, ENGLISH[0])
    together = embed(embedder, *ENGLISH, "A much longer text, so that the short ones are padded. " * 8)
    np.testing.assert_allclose(alone[0], together[0], atol=1e-4)


@pytest.mark.parametrize("model", ["minilm", "e5"])
@pytest.mark.parametrize("kind", ["query", "passage"])
def test_a_text_and_its_token_ids_give_the_same_vector(request, model, kind):
    embedder = request.getfixturevalue(model)
    for text in (ENGLISH[1], CHINESE[0]):
        (ids,) = embedder._tokenizer.encode([text])
        np.testing.assert_array_equal(embed(embedder, text, kind=kind), embed(embedder, ids, kind=kind))


def test_ids_with_special_tokens_are_complete(minilm):
    (ids,) = minilm._tokenizer.encode([ENGLISH[0]])
    np.testing.assert_array_equal(embed(minilm, (101, *ids, 102)), embed(minilm, ids))


def test_texts_and_ids_may_be_mixed(minilm):
    (ids,) = minilm._tokenizer.encode([ENGLISH[0]])
    vectors = embed(minilm, ids, ENGLISH[2], ids)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert float(vectors[0] @ vectors[1]) < 0.5


def test_the_prefix_tells_queries_from_passages(e5):
    query, passage = (embed(e5, ENGLISH[0], kind=kind)[0] for kind in ("query", "passage"))
    assert 0.8 < float(query @ passage) < 0.99


def test_tokens_are_counted_with_special_tokens(minilm):
    assert answer(minilm, "hello", (7592, 7592)).tokens == 3 + 4


@pytest.mark.parametrize("repeats", [300, 100_000])
def test_an_input_over_the_limit_is_refused(minilm, repeats):
    with pytest.raises(ContextLengthExceeded, match=r"input\[1\].*at most 256") as refusal:
        answer(minilm, "short", "word " * repeats)
    assert refusal.value.param == "input[1]"


def test_the_limit_itself_is_accepted(minilm, e5):
    assert answer(minilm, "word " * 254).tokens == 256
    with pytest.raises(ContextLengthExceeded, match="has 257 tokens"):
        answer(minilm, "word " * 255)
    assert answer(e5, ("word " * 508).strip()).tokens == 512  # <s> passage : … </s>
    with pytest.raises(ContextLengthExceeded, match="has 513 tokens"):
        answer(e5, ("word " * 509).strip())
    with pytest.raises(ContextLengthExceeded, match=r"input\[0\] has 302 tokens"):
        answer(minilm, (7592,) * 300)


@pytest.mark.parametrize("id", [-1, 30_522, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(minilm, id):
    with pytest.raises(InvalidValue, match=rf"input\[0\] holds the token id {id}; .* 0 to 30521"):
        answer(minilm, (7592, id))


def test_dimensions_a_model_was_not_trained_for_are_refused(minilm):
    assert answer(minilm, "hello", dimensions=384).dimensions == 384
    with pytest.raises(UnsupportedParameter, match="must be 384 or left out"):
        answer(minilm, "hello", dimensions=128)
    for dimensions in (0, -1, 385):
        with pytest.raises(InvalidValue, match="gives 1 to 384"):
            answer(minilm, "hello", dimensions=dimensions)


def test_a_truncatable_model_gives_shorter_vectors_of_length_1(minilm_model):
    embedder = Embedder(msgspec.structs.replace(minilm_model, truncatable=True), threads=1)
    full, short = embed(embedder, ENGLISH[0]), embed(embedder, ENGLISH[0], dimensions=100)
    np.testing.assert_allclose(short, normalized(full[:, :100]), atol=1e-6)


def test_cls_pooling_takes_the_first_token(minilm_model):
    plain = Embedder(msgspec.structs.replace(minilm_model, pooling="cls", normalize=False), threads=1)
    work = plain.prepare(Embed(id=1, model="m", inputs=("hello",)))
    hidden, _ = plain._loaded.run(work.rows)
    np.testing.assert_array_equal(plain.run(work.rows), hidden[:, 0])


def test_facts(minilm, e5):
    assert (minilm.facts.dimensions, minilm.facts.context_length, minilm.facts.vocabulary) == (
        384,
        256,
        30522,
    )
    assert minilm.facts.weight_bytes == 22_928_619
    assert e5.facts.vocabulary == 250_002
    assert minilm.facts.backend.startswith("onnxruntime 1.")
