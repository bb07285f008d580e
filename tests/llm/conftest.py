"""An engine over the arithmetic backend, stepped by hand, that watches every step it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.llm.backend import Span
from appliance.llm.block_store import BlockStore
from appliance.llm.blocks import BlockTree
from appliance.llm.draft import PromptLookup
from appliance.llm.engine import Engine
from appliance.llm.fake import EOS, FakeBackend, checksum_token
from appliance.llm.plan import Limits
from appliance.llm.request import Admit
from appliance.llm.scheduler import Scheduler
from appliance.records import Cancel, Ended, Event, Failed, SamplingParams, SchedulingClass, Started, Step


class Rig:
    """Engine, scheduler and FakeBackend; `now` is the clock, `events` all that was emitted."""

    def __init__(
        self,
        *,
        slots: int = 4,
        cells: int = 256,
        sequences: int = 8,
        batch_tokens: int = 32,
        busy_prefill_tokens: int = 8,
        queue_requests: int = 1000,
        queue_tokens: int = 1_000_000,
        drafts: bool = False,
        busy_copy_bytes: int = 1 << 20,
        memory: int = 0,
        disk: int = 0,
        directory: Path | None = None,
        answer: Callable[[Sequence[int]], int] = checksum_token,
    ) -> None:
        self.answer = answer
        self.now = 100.0
        self.events: list[Event] = []
        self.samplers: list[Any] = []
        self._decoding_before: list[Any] = []
        self.backend = FakeBackend(cells=cells, sequences=sequences, answer=answer)
        self.backend.before_decode = self._watch
        make_sampler = self.backend.sampler

        def sampler(params: SamplingParams, seed: int) -> Any:
            self.samplers.append(make_sampler(params, seed))
            return self.samplers[-1]

        self.backend.sampler = sampler  # type: ignore[method-assign]
        self.limits = Limits(
            slots=slots,
            cells=cells,
            sequences=sequences,
            batch_tokens=batch_tokens,
            busy_prefill_tokens=busy_prefill_tokens,
            queue_requests=queue_requests,
            queue_tokens=queue_tokens,
            busy_copy_bytes=busy_copy_bytes,
        )
        self.tree = BlockTree(memory_bytes=memory, disk_bytes=disk, block_tokens=8)
        self.store = BlockStore(directory if disk else None, b"the rig")
        self.directory = directory
        self.scheduler = Scheduler(self.limits, self.tree)
        self.engine = Engine(
            self.backend,
            self.scheduler,
            self.events.append,
            clock=lambda: self.now,
            start_drafter=PromptLookup if drafts else None,
            store=self.store,
        )

    def _watch(self, spans: Sequence[Span]) -> None:
        tokens = sum(len(span.tokens) for span in spans)
        assert 0 < tokens <= self.limits.batch_tokens
        assert len(self.scheduler.running) <= self.limits.slots
        computed = {span.sequence for span in spans}
        assert len(computed) == len(spans)
        decoding = {s.slot for s in self.scheduler.running if not s.is_prefilling}
        assert decoding <= computed, "a running stream was left out of a step"
        if any(s in self.scheduler.running for s in self._decoding_before):
            prefilled = sum(len(span.tokens) for span in spans if span.sequence not in decoding)
            waiting = [s for s in self.scheduler.running if s.is_prefilling]
            brief = sum(s.pending <= self.limits.batch_tokens for s in waiting)
            fair = self.limits.batch_tokens * brief / (brief + len(decoding))
            assert prefilled <= max(self.limits.busy_prefill_tokens, fair)
        assert self.backend.used_cells + tokens == self.scheduler.ledger.used <= self.limits.cells

    def ask(
        self,
        id: int,
        prompt: Sequence[int] | str,
        max_tokens: int = 8,
        *,
        choices: int = 1,
        seed: int = 1,
        deadline: float | None = None,
        scheduling_class: SchedulingClass = "default",
        owner: str = "",
        namespace: str = "",
        **sampling: Any,
    ) -> None:
        tokens = list(prompt.encode()) if isinstance(prompt, str) else list(prompt)
        params = SamplingParams(**{"temperature": 0.0, "max_tokens": max_tokens, **sampling})
        admit = Admit(
            id=id,
            prompt=tokens,
            sampling=params,
            choices=choices,
            seed=seed,
            limit=min(len(tokens) + max_tokens, self.limits.cells),
            arrived=self.now,
            deadline=deadline,
            scheduling_class=scheduling_class,
            owner=owner,
            namespace=namespace,
        )
        self.engine.inbox.put(admit)

    def cancel(self, id: int) -> None:
        self.engine.inbox.put(Cancel(id=id))

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            if not (self.scheduler.is_idle and self.engine.inbox.empty()):
                self.engine.take_commands()
                self._decoding_before = [s for s in self.scheduler.running if not s.is_prefilling]
                self.engine.step()
                self.engine.check()

    def run(self, most_steps: int = 5000) -> None:
        """Until nothing is left to do; a scheduler that runs in circles fails here."""
        for _ in range(most_steps):
            if self.scheduler.is_idle and self.engine.inbox.empty():
                return
            self.step()
        pytest.fail(f"not idle after {most_steps} steps: {len(self.scheduler.waiting)} wait")

    # What came out

    def text(self, id: int, choice: int = 0) -> str:
        return "".join(d.text for d in self.deltas(id, choice))

    def deltas(self, id: int, choice: int = 0) -> list[Any]:
        steps = [event for event in self.events if isinstance(event, Step)]
        return [d for step in steps for d in step.deltas if (d.id, d.choice) == (id, choice)]

    def reason(self, id: int, choice: int = 0) -> str | None:
        return next((d.finish_reason for d in self.deltas(id, choice) if d.finish_reason), None)

    def ends(self, id: int) -> list[Any]:
        return [e for e in self.events if isinstance(e, Ended | Failed) and e.id == id]

    def error(self, id: int) -> Any:
        (end,) = self.ends(id)
        return end.error

    def started(self, id: int) -> Any:
        (event,) = [e for e in self.events if isinstance(e, Started) and e.id == id]
        return event

    def alone(self, prompt: Sequence[int] | str, max_tokens: int) -> str:
        """What a greedy answer to `prompt` must be, whatever else runs."""
        history = list(prompt.encode()) if isinstance(prompt, str) else list(prompt)
        text = ""
        for _ in range(min(max_tokens, self.limits.cells - len(history))):
            token = self.answer(history)
            if token == EOS:
                break
            history.append(token)
            text += chr(token)
        return text


@pytest.fixture(scope="session")
def rig() -> type[Rig]:
    return Rig


@pytest.fixture
def cpu_seconds() -> Callable[[], float]:
    """Processor time since the test began: what a busy machine does not stretch."""
    begun = time.process_time()
    return lambda: time.process_time() - begun
