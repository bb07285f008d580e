from __future__ import annotations

import pytest

from appliance.encoders.rerank import Reranker
from appliance.errors import ContextLengthExceeded
from appliance.records import Rerank, Scores

QUERY = "How many people live in Berlin?"
BERLIN = "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers."
MUSEUMS = "Berlin is well known for its museums."
NEW_YORK = "New York City is famous for the Metropolitan Museum of Art."


def score(reranker: Reranker, query: str, *documents: str) -> Scores:
    command = Rerank(id=1, model="m", query=query, documents=documents)
    work = reranker.prepare(command)
    return reranker.reply(command, work, reranker.run(work.rows))


def test_the_example_of_the_model_s_card(reranker):
    scores = score(reranker, QUERY, BERLIN, MUSEUMS)
    # Products of int8 saturate where the processor has no VNNI instructions: 8.99 there, 9.15 with them.
    assert scores.logits == pytest.approx([9.07, -4.28], abs=0.1)
    assert scores.warnings == ()


def test_the_tokens_of_every_pair_are_counted(reranker):
    assert score(reranker, "hello", "hello", "hello hello").tokens == 5 + 6


def test_a_long_document_is_cut_with_a_warning_that_names_it(reranker):
    long = BERLIN + " And more." * 1000
    scores = score(reranker, QUERY, BERLIN, long, NEW_YORK)
    assert scores.logits[1] > 0 > scores.logits[2]
    (warning,) = scores.warnings
    assert "documents[1]: longer than fits beside the query of 7 tokens" in warning
    assert "documents[0]" not in warning
    assert "first 502 tokens" in warning


def test_only_the_part_of_a_document_that_can_matter_is_tokenised(reranker):
    start = BERLIN + " And more." * 1000
    command = Rerank(id=1, model="m", query=QUERY, documents=(start, start + " Berlin" * 100_000))
    first, second = reranker.prepare(command).rows
    assert first.tokens.tolist() == second.tokens.tolist()
    assert len(first) == 512


def test_a_long_document_of_few_tokens_is_whole(reranker):
    spread = BERLIN.replace(" ", " " * 10_000)
    scores = score(reranker, QUERY, BERLIN, spread)
    assert scores.warnings == ()
    assert scores.logits[0] == pytest.approx(scores.logits[1])


def test_many_cut_documents_make_one_short_warning(reranker):
    command = Rerank(id=1, model="m", query=QUERY, documents=("word " * 600,) * 50)
    (warning,) = reranker.prepare(command).warnings
    assert "documents[19] and 30 more" in warning
    assert len(warning) < 1000


@pytest.mark.parametrize("repeats", [255, 100_000])
def test_a_query_over_half_the_context_is_refused(reranker, repeats):
    with pytest.raises(ContextLengthExceeded, match="at most 254") as refusal:
        score(reranker, "word " * repeats, BERLIN)
    assert refusal.value.param == "query"
    assert score(reranker, "word " * 254, BERLIN).logits
