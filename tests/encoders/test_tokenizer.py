from __future__ import annotations

from pathlib import Path

import pytest

from appliance.encoders.tokenizer import Frame, PairFrame, Tokenizer
from appliance.errors import SetupError
from appliance.launch import EncoderModel


@pytest.fixture(scope="module")
def bert(minilm_model: EncoderModel) -> Tokenizer:
    return Tokenizer(minilm_model.tokenizer)


@pytest.fixture(scope="module")
def roberta(e5_model: EncoderModel) -> Tokenizer:
    return Tokenizer(e5_model.tokenizer)


def test_frames_are_learned_from_the_template(bert, roberta):
    assert (bert.vocabulary, roberta.vocabulary) == (30522, 250002)
    assert (bert.single, roberta.single) == (Frame((101,), (102,)), Frame((0,), (2,)))
    assert bert.pair == PairFrame((101,), (102,), (102,), second_type=1)
    assert roberta.pair == PairFrame((0,), (2, 2), (2,), second_type=0)


def test_the_file_neither_pads_nor_cuts(bert):
    assert bert.encode(["hello", "hello " * 1000]) == [(7592,), (7592,) * 1000]
    assert bert.encode([]) == []


def test_the_name_of_a_special_token_in_a_text_is_text(bert):
    (ids,) = bert.encode(["the end [SEP] of it"])
    assert 102 not in ids


@pytest.mark.parametrize(
    ("ids", "held"), [((1, 5, 2), True), ((1, 2), True), ((5, 2), False), ((1, 5), False), ((1,), False)]
)
def test_a_frame_knows_ids_it_already_holds(ids, held):
    assert Frame((1,), (2,)).holds(ids) is held


def test_a_model_without_special_tokens_holds_nothing():
    assert not Frame((), ()).holds((1, 2))


def test_a_very_long_text_is_judged_by_its_beginning(bert):
    assert bert.count_exceeds("word " * 100_000, 256)
    assert not bert.count_exceeds("word " * 300, 256)  # unknown: it is not long enough
    assert not bert.count_exceeds(" " * 1_000_000, 256)


def test_a_tokenizer_inside_a_larger_file(minilm_model, tmp_path, bert):
    content = Path(minilm_model.tokenizer).read_bytes()
    carrier = tmp_path / "carrier"
    carrier.write_bytes(b"x" * 1000 + content + b"y" * 1000)
    inside = Tokenizer(str(carrier), offset=1000, size=len(content))
    assert inside.encode(["embedded"]) == bert.encode(["embedded"])


def test_what_is_no_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(SetupError, match=r"nowhere\.json"):
        Tokenizer(str(tmp_path / "nowhere.json"))
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(SetupError, match=r"odd\.json: not a tokenizer"):
        Tokenizer(str(tmp_path / "odd.json"))
