"""Text streams: whole characters, and nothing of a stop string, however the bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.text import TextStream

WORDS = st.text(alphabet="abc", min_size=1, max_size=4)


def streamed(raw: bytes, cuts: list[int], stop: list[str]) -> tuple[str, bool, list[str]]:
    stream = TextStream(stop)
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    parts = [stream.push(raw[a:b]) for a, b in itertools.pairwise(edges)]
    parts.append(stream.finish())
    return "".join(parts), stream.stopped, parts


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=12))
def test_every_cut_of_the_bytes_gives_the_same_text(text: str, cuts: list[int]) -> None:
    joined, stopped, parts = streamed(text.encode(), cuts, [])
    assert joined == text
    assert not stopped
    assert "�" not in joined.replace("�", "", text.count("�"))
    assert all(part.encode() for part in parts if part)


@given(
    st.text(alphabet="abc", max_size=30),
    st.lists(st.integers(0, 30), max_size=10),
    st.lists(WORDS, max_size=3),
)
def test_stopping_does_not_depend_on_how_the_bytes_arrive(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    joined, stopped, _ = streamed(text.encode(), cuts, stop)
    ends = [(text.index(word) + len(word), text.index(word)) for word in stop if word in text]
    expected = text[: min(ends)[1]] if ends else text
    assert (joined, stopped) == (expected, bool(ends))


@given(st.text(alphabet="abc", max_size=30), st.lists(WORDS, min_size=1, max_size=3))
def test_no_part_of_a_stop_string_is_shown_early(text: str, stop: list[str]) -> None:
    stream = TextStream(stop)
    shown = ""
    for character in text:
        shown += stream.push(character.encode())
        if stream.stopped:
            break
    assert not any(word in shown for word in stop)


@pytest.mark.parametrize("text", ["你好，世界", "🧑‍🚀🇩🇪", "é", "\U0010ffff"])
def test_a_character_comes_when_its_last_byte_does(text: str) -> None:
    stream = TextStream()
    for character in text:
        *first, last = [bytes([byte]) for byte in character.encode()]
        assert [stream.push(byte) for byte in first] == [""] * len(first)
        assert stream.push(last) == character


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    stream = TextStream(["</end>"])
    assert stream.push(b"a</e") == "a"
    assert stream.push(b"x") == "</ex"
    assert stream.push(b"</end") == ""
    assert stream.finish() == "</end"


def test_nothing_follows_a_stop_string() -> None:
    stream = TextStream(["。"])
    assert stream.push("好。再见".encode()) == "好"
    assert stream.stopped
    assert stream.push(b"more") == ""
    assert stream.finish() == ""


def test_a_cut_character_becomes_one_replacement_at_the_end() -> None:
    stream = TextStream()
    assert stream.push("ab你".encode()[:-1]) == "ab"
    assert stream.finish() == "�"
