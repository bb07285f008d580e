from __future__ import annotations

import pytest

from appliance.store import terms
from appliance.store.segment import query_words, segmented
from tests.store.conftest import Shelf


def search(shelf: Shelf, query: str, documents: list[int] | None = None) -> list[int]:
    """The numbers of the chunks found, best first, in the order they were put in."""
    first = int(shelf.truth().added[0])
    found = shelf.database.read(
        lambda connection: (
            terms.search(
                connection, shelf.edition, query, 10, terms.WordCounts(), len(shelf.truth().added), documents
            ).ranked
        )
    )
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    return [hit.chunk - first for hit in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words", "plain words"),
        ("知识库", " 知识 识库 "),
        ("用Hearth检索", " 用 Hearth 检索 "),
        ("ﾃﾞｰﾀ", " デー ータ "),
        ("ＡＢＣ", "ABC"),
    ],
)
def test_segmentation(text: str, expected: str) -> None:
    assert segmented(text) == expected


def test_common_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert query_words("What is the boiling point of water?", 64) == ["boiling", "point", "water"]
    assert query_words("to be or not to be", 64) == ["to", "be", "or", "not"]
    assert len(query_words(" ".join(f"w{n}" for n in range(500)), 64)) == 64


def test_words_are_found_whatever_their_ending(shelf: Shelf) -> None:
    shelf.put(["the valves were heated", "a cold pipe", "heating of a valve"])
    assert sorted(search(shelf, "heat valve")) == [0, 2]
    assert search(shelf, "pipes") == [1]
    assert search(shelf, "nothing like that") == []


def test_chinese_and_japanese_are_found_inside_sentences(shelf: Shelf) -> None:
    shelf.put(["本章说明如何安装软件包。", "日本語の文書を検索する", "完全无关的内容"])
    assert search(shelf, "软件包安装")[0] == 0
    assert search(shelf, "検索") == [1]


@pytest.mark.parametrize(
    "query", ['"', "NEAR(", "a AND", "*", "heading: x", "'; DROP TABLE chunks --", "", "\0"]
)
def test_queries_are_never_syntax(shelf: Shelf, query: str) -> None:
    shelf.put(["some text"])
    assert search(shelf, query) == []
    assert search(shelf, f"{query} text") == [0]


def test_only_some_documents(shelf: Shelf) -> None:
    first, second = shelf.put(["apple pie", "plum"]), shelf.put(["apple juice"])
    assert search(shelf, "apple", [second]) == [2]
    assert search(shelf, "apple", [first]) == [0]
    assert search(shelf, "apple", []) == []


def test_removed_chunks_are_not_found(shelf: Shelf) -> None:
    shelf.put(["apple pie"])
    second = shelf.put(["apple juice"])
    shelf.take(second)
    assert search(shelf, "apple") == [0]


def test_a_costly_word_gives_way_to_rare_ones(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put([*(["everywhere"] * 30), "everywhere rare"])
    assert len(search(shelf, "everywhere rare")) == 10
    monkeypatch.setattr(terms, "POSTINGS", 20)
    assert search(shelf, "everywhere rare") == [30]
    assert len(search(shelf, "everywhere")) == 10


@pytest.mark.parametrize("others", [0, 1, 5, 300])
def test_the_share_of_a_questions_words_is_told_in_small_and_large_bases(shelf: Shelf, others: int) -> None:
    rivers = [f"river number {i} has a bridge" for i in range(others)]
    shelf.put(["Neil Armstrong walked on the moon in July", *rivers])

    def coverage(question: str) -> float:
        total = len(shelf.truth().added)
        return shelf.database.read(
            lambda connection: (
                terms.search(connection, shelf.edition, question, 10, terms.WordCounts(), total).coverage
            )
        )

    assert coverage("Armstrong walked on the moon?") > 0.7
    assert 0 < coverage("Armstrong had a fishing quota?") < 0.6
    assert coverage("Fishing quota?") == 0


def test_words_of_one_stem_count_once(shelf: Shelf) -> None:
    shelf.put(["heating the valves", "a cold pipe"])
    once, thrice = (search(shelf, query) for query in ("heat", "heat heats heating"))
    assert once == thrice == [0]


def test_how_often_a_word_stands_is_remembered_for_a_bounded_while(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = terms.WordCounts()

    def of(word: str) -> int:
        return shelf.database.read(lambda c: counts.of(c, shelf.edition, word, word))

    shelf.put(["pipe valve", "pipe"])
    assert (of("pipe"), of("valve")) == (2, 1)
    shelf.put(["pipe"])
    assert of("pipe") == 2, "it was not counted again"
    monkeypatch.setattr(terms, "REMEMBERED_COUNTS", 2)
    assert of("tank") == 0
    assert of("pipe") == 3, "all was forgotten when it became too much"
