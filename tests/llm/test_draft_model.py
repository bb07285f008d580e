"""A small model drafts for a large one: what it writes ahead, what it holds, and when it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance import engine_room
from appliance.errors import InternalError, SetupError
from appliance.launch import DraftModelFile, GeneratorOrder
from appliance.llm import bindings, native
from appliance.llm.backend import Span
from appliance.llm.draft import LONGEST_DRAFT, LONGEST_PAUSE
from appliance.llm.draft_model import READ_AT_ONCE, DraftModel
from appliance.llm.fake import FakeBackend, checksum_token
from appliance.llm.request import Admit
from appliance.records import Ended, Event, SamplingParams
from models.store import Store
from tests import tiny_model
from tests.conftest import require
from tests.serving import CHAT, store_directory


def counting(history: Sequence[int]) -> int:
    return 97 + len(history) % 26


def drafting_rig(rig: Any, small: FakeBackend, **limits: Any) -> Any:
    r = rig(cells=2048, batch_tokens=128, busy_prefill_tokens=32, **limits)
    r.engine.start_drafter = DraftModel(small).start
    return r


def test_a_model_that_agrees_saves_steps_and_changes_nothing(rig: Any) -> None:
    small = FakeBackend(cells=2048, answer=checksum_token)
    r = drafting_rig(rig, small)
    for id in (1, 2):
        r.ask(id, f"the prompt number {id}", 90)
    r.run()
    for id in (1, 2):
        assert r.text(id) == r.alone(f"the prompt number {id}", 90)
    assert r.backend.steps < 40, "90 tokens each"
    assert small.used_cells == 0, "what ended holds nothing"


def test_a_model_that_never_agrees_is_hardly_asked_and_changes_nothing(rig: Any) -> None:
    small = FakeBackend(cells=2048, answer=lambda history: 65)
    r = drafting_rig(rig, small)
    r.ask(1, "a prompt", 200)
    r.run()
    assert r.text(1) == r.alone("a prompt", 200)
    assert small.steps < 12


def test_a_long_prompt_is_read_in_pieces_while_the_others_go_on(rig: Any) -> None:
    small = FakeBackend(cells=2048, answer=checksum_token)
    pieces: list[int] = []
    small.before_decode = lambda spans: pieces.append(sum(len(span.tokens) for span in spans))
    r = drafting_rig(rig, small)
    r.ask(1, "p" * (5 * READ_AT_ONCE), 40)
    r.run()
    assert r.text(1) == r.alone("p" * (5 * READ_AT_ONCE), 40)
    assert max(pieces) <= READ_AT_ONCE
    assert pieces.count(READ_AT_ONCE) >= 4


def test_without_cells_or_sequences_for_it_nothing_is_drafted(rig: Any) -> None:
    for small in (FakeBackend(cells=8, answer=checksum_token), FakeBackend(sequences=0)):
        r = drafting_rig(rig, small)
        r.ask(1, "a prompt of more than eight", 30)
        r.run()
        assert r.text(1) == r.alone("a prompt of more than eight", 30)
        assert small.steps == 0


def test_a_model_that_fails_is_left_out_and_costs_no_answer(rig: Any) -> None:
    def fail(spans: Sequence[Span]) -> None:
        raise InternalError("no")

    small = FakeBackend(cells=2048, answer=checksum_token)
    small.before_decode = fail
    r = drafting_rig(rig, small)
    r.ask(1, "a prompt", 30)
    r.run()
    assert r.text(1) == r.alone("a prompt", 30)


def test_a_full_batch_leaves_the_model_alone(rig: Any) -> None:
    small = FakeBackend(cells=4096, answer=checksum_token)
    r = drafting_rig(rig, small, slots=26, sequences=30)
    for id in range(1, 27):
        r.ask(id, f"prompt {id}", 60)
    while len(r.scheduler.running) < 26:
        r.step()
    drafted = small.steps
    r.step(5)
    assert len(r.scheduler.running) == 26
    assert small.steps == drafted


# Real models


class Outlet:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)


def answer(order: GeneratorOrder) -> tuple[str, int, int]:
    """A greedy answer; the engine's steps; how many of them the draft model saved is the caller's to see."""
    outlet: Any = Outlet()
    backend, _ = engine_room.load(order, outlet.send)
    draft_model = engine_room.load_draft_model(order, backend)
    engine = engine_room.build_engine(order, backend, outlet.send, draft_model)
    prompt = backend.vocabulary.tokenize("The pump is", add_bos=True, parse_special=False)
    params = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    engine.inbox.put(
        Admit(id=1, prompt=prompt, sampling=params, choices=1, seed=1, limit=len(prompt) + 40, arrived=0.0,
              deadline=None)
    )  # fmt: skip
    while not any(isinstance(event, Ended) for event in outlet.events):
        engine.take_commands()
        engine.step()
    text = "".join(d.text for e in outlet.events if hasattr(e, "deltas") for d in e.deltas)
    steps = engine.totals.steps
    if draft_model is not None:
        draft_model.close()
    backend.close()
    return text, steps, engine.totals.completion_tokens


def real_order(draft_model: DraftModelFile | None, **changes: Any) -> GeneratorOrder:
    weights = Store(store_directory()).extent(CHAT, "model.gguf")
    return GeneratorOrder(
        name=CHAT,
        weights=str(weights.path),
        weights_offset=weights.start,
        weights_bytes=weights.length,
        cells=512,
        threads=1,
        draft=draft_model is not None,
        draft_model=draft_model,
        **changes,
    )


def test_a_real_model_drafts_for_itself() -> None:
    require([CHAT])
    own = real_order(None)
    itself = DraftModelFile(
        name=CHAT, weights=own.weights, offset=own.weights_offset, bytes=own.weights_bytes
    )
    plain, steps, _ = answer(own)
    drafted, fewer, tokens = answer(real_order(itself))
    assert tokens == 40
    assert steps == 40
    assert fewer < 0.6 * steps
    assert drafted[:20] == plain[:20], "later a near tie may fall otherwise: batches are rounded differently"


def test_a_model_with_other_words_is_refused_by_name(tmp_path: Path) -> None:
    keys = tiny_model.keys("other")
    kind, (item, tokens) = keys["tokenizer.ggml.tokens"]
    keys["tokenizer.ggml.tokens"] = (kind, (item, [*tokens[:-1], "x"]))
    (tmp_path / "own.gguf").write_bytes(tiny_model.tiny_gguf())
    (tmp_path / "other.gguf").write_bytes(tiny_model.gguf(keys, tiny_model.tensors()))
    order = GeneratorOrder(
        name="own",
        weights=str(tmp_path / "own.gguf"),
        cells=128,
        threads=1,
        draft_model=DraftModelFile(name="other", weights=str(tmp_path / "other.gguf")),
    )
    bindings.load_compute_backends()
    backend = native.LlamaBackend(order, 128, lambda fraction: None)
    try:
        with pytest.raises(SetupError, match=r"has other draft for own, but its vocabulary is another"):
            engine_room.load_draft_model(order, backend)
    finally:
        backend.close()


def test_pauses_and_lengths_are_those_of_every_drafter() -> None:
    small = FakeBackend(cells=512, answer=counting)
    drafter = DraftModel(small).start([])
    lengths = []
    tokens = [1, 2, 3]
    for _ in range(6):
        draft = drafter.propose(tokens, 40)
        lengths.append(len(draft))
        drafter.learn(len(draft), len(draft))
        tokens += draft
    assert lengths == [1, 2, 4, 8, LONGEST_DRAFT, LONGEST_DRAFT]
    drafter.learn(4, 0)
    assert not any(drafter.propose(tokens, 4) for _ in range(8))
    assert any(drafter.propose(tokens, 4) for _ in range(LONGEST_PAUSE))
    drafter.close()
    assert small.used_cells == 0
