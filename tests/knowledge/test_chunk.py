from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.knowledge.chunk import Piece, chunk, embedded_text
from appliance.knowledge.text import Block, DocumentText, joined, pack_spans, unpack_spans


def count(texts: Sequence[str]) -> list[int]:
    """A token for every four characters, begun ones included: good enough, and sub-additive."""
    return [(len(text) + 3) // 4 for text in texts]


def cut(document: DocumentText, limit: int = 40, overlap: int = 8, room: int = 100) -> list[Piece]:
    return chunk(document, count, limit, overlap, room)


def texts(document: DocumentText, pieces: list[Piece]) -> list[str]:
    return [document.text[piece.begins : piece.ends] for piece in pieces]


def test_a_short_document_is_one_chunk() -> None:
    document = joined([Block("heading", "Title", 1), Block("paragraph", "One sentence. Another.")])
    (piece,) = cut(document)
    assert texts(document, [piece]) == ["Title\n\nOne sentence. Another."]
    assert piece.heading == "Title"


def test_headings_begin_chunks_and_make_a_path() -> None:
    long = "Some words here. " * 8
    document = joined(
        [
            Block("heading", "Book", 1),
            Block("heading", "First", 2),
            Block("paragraph", long),
            Block("heading", "Second", 2),
            Block("paragraph", long),
        ]
    )
    pieces = cut(document, limit=60)
    assert pieces[0].heading == "Book › First"
    assert pieces[-1].heading == "Book › Second"
    assert any(text.startswith("Second") for text in texts(document, pieces))


def test_sentences_stay_whole_in_chinese_too() -> None:
    sentences = [f"这是第{number}句话，说明一个事实。" for number in range(30)]
    document = joined([Block("paragraph", "".join(sentences))])
    for text in texts(document, cut(document, limit=20, overlap=5)):
        assert text.startswith("这是第")
        assert text.endswith("。")


def test_a_chunk_repeats_the_end_of_the_one_before() -> None:
    document = joined([Block("paragraph", " ".join(f"Sentence number {n} ends." for n in range(40)))])
    pieces = cut(document, limit=40, overlap=12)
    for before, after in pairwise(pieces):
        assert before.begins < after.begins < before.ends < after.ends
    none = cut(document, limit=40, overlap=0)
    assert all(before.ends <= after.begins for before, after in pairwise(none))


def test_pages_are_those_of_the_chunks_first_sentence() -> None:
    page = "Words that fill a page. " * 8
    document = joined([Block("paragraph", page, 0, 1), Block("paragraph", page, 0, 2)])
    assert [piece.page for piece in cut(document, limit=50, overlap=0)] == [1, 2]


def test_a_word_without_end_is_cut() -> None:
    document = joined([Block("code", "x" * 5000)])
    pieces = cut(document, limit=40, overlap=0)
    assert "".join(texts(document, pieces)) == "x" * 5000


BLOCK = st.builds(
    Block,
    st.sampled_from(("heading", "paragraph", "row", "code")),
    st.text(st.sampled_from("ab \n。.知識!,x"), max_size=300),
    st.integers(1, 6),
    st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCK, max_size=12), st.integers(16, 80), st.integers(0, 40))
def test_any_document(blocks: list[Block], limit: int, overlap: int) -> None:
    document = joined(blocks)
    assert unpack_spans(pack_spans(document.spans)) == document.spans
    room = 100
    pieces = cut(document, limit, min(overlap, limit // 2), room)
    covered = set()
    for piece in pieces:
        text = document.text[piece.begins : piece.ends]
        covered.update(range(piece.begins, piece.ends))
        # Blank space between sentences is the only thing that a chunk has beyond its counted parts.
        assert count(["".join(text.split())])[0] <= limit
        assert len(embedded_text(piece.heading, "".join(text.split()))) <= 4 * room
    left = {place for place, letter in enumerate(document.text) if not letter.isspace()} - covered
    assert not left, "no character is lost"
    assert [piece.begins for piece in pieces] == sorted({piece.begins for piece in pieces})
