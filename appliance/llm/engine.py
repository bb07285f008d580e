"""The generator's one thread: inbox → plan → decode → emit, a step at a time.

The engine owns all running state. Others put commands into its inbox and read events from its outlet; it
blocks on the inbox when there is nothing to compute. Every admitted request ends in exactly one Ended or
Failed event.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance import errors
from appliance.llm.backend import Backend
from appliance.llm.block_store import BlockStore
from appliance.llm.circles import Circles
from appliance.llm.draft import MOST_ROWS, PromptLookup, StartDrafter
from appliance.llm.plan import Plan
from appliance.llm.request import Admit, Request
from appliance.llm.scheduler import Scheduler
from appliance.llm.sequence import Sequence
from appliance.llm.storekeeper import Storekeeper
from appliance.llm.writer import Writer
from appliance.records import (
    Accepted,
    Cancel,
    Delta,
    Event,
    Failed,
    Measure,
    Progress,
    Started,
    Step,
    Stop,
    WorkerStats,
)

MAX_STEP_FAILURES = 3
PROGRESS_SECONDS = 0.5  # between two words about requests that have no token yet


@dataclass
class Totals:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0


EngineCommand = Admit | Cancel | Measure | Stop


@dataclass
class Engine:
    backend: Backend
    scheduler: Scheduler
    emit: Callable[[Event], None]
    clock: Callable[[], float] = time.monotonic
    inbox: queue.SimpleQueue[EngineCommand] = field(default_factory=queue.SimpleQueue)
    totals: Totals = field(default_factory=Totals)
    start_drafter: StartDrafter | None = PromptLookup  # for each sequence; None: nobody guesses ahead
    store: BlockStore = field(default_factory=lambda: BlockStore(None))
    retains: bool = True  # what was computed of a prompt serves the next one with the same beginning
    ends_circles: bool = True  # a free answer that says one thing again and again is ended
    fingerprint: str = ""
    start_apart: Callable[[], Engine] | None = None  # an engine for those that ask to be computed apart
    _apart: Engine | None = None
    _requests: dict[int, Request] = field(default_factory=dict)
    _stopping: bool = False
    _failures: int = 0
    _progress_told: float = 0.0

    def __post_init__(self) -> None:
        self.writer = Writer(self.backend)
        self._storekeeper = Storekeeper(self.backend, self.scheduler, self.store)

    def run(self) -> None:
        """Live until a Stop has been obeyed, and what is worth keeping has been kept."""
        while not (self._stopping and self.is_idle):
            self.take_commands()
            self.step()
        while self.rest():
            pass
        self._storekeeper.close()

    def take_commands(self) -> None:
        """Obey everything in the inbox; wait for something when there is nothing to compute."""
        if self.is_idle and not self._stopping:
            while self.inbox.empty() and self.rest():
                pass
            self.check()
            self._obey(self.inbox.get())
        while not self.inbox.empty():
            self._obey(self.inbox.get())

    @property
    def is_idle(self) -> bool:
        return self.scheduler.is_idle and self._apart is None

    def step(self) -> None:
        """Compute and emit one step, if there is anything to compute; and one of those computed apart."""
        self._step()
        if self._apart is not None:
            self._apart.step()
            if self._apart.is_idle:
                self._apart.backend.close()
                self._apart = None

    def _step(self) -> None:
        self._enforce_deadlines()
        self._draft()
        plan = self.scheduler.plan()
        self._announce(plan)
        self._storekeeper.carry_out(plan.changes)
        self._tell_progress()
        deltas = [delta for part in plan.by_adapter() for delta in self._compute(part)]
        self._publish(deltas)

    def _compute(self, part: Plan) -> list[Delta]:
        """One batch, all of it with the same adapter, and what it says."""
        try:
            self.backend.use(part.batch[0].adapter)
            self.backend.decode(part.spans)
        except errors.InternalError as error:
            self._fail_batch(part, error)
            return []
        self.scheduler.commit(part)
        self.totals.steps += 1
        self._failures = 0
        return self._write(part)

    def rest(self) -> bool:
        """Nobody asks for anything: do a little of what is worth doing then; whether there was any."""
        plan = self.scheduler.plan_idle()
        self._storekeeper.carry_out(plan.changes)
        return bool(plan.changes)

    def check(self) -> None:
        """The integrity check: raises AssertionError when our books and the cache's own differ."""
        self._storekeeper.carry_out(self.scheduler.cache.take_changes())
        self.scheduler.check()
        for sequence, length in self.scheduler.cache.lengths().items():
            if (actual := self.backend.length(sequence)) != length:
                raise AssertionError(f"cache sequence {sequence} holds {actual} tokens, not {length}")

    # Commands

    def _obey(self, command: EngineCommand) -> None:
        match command:
            case Admit():
                self._admit(command)
            case Cancel():
                self._end_early(command.id, errors.Cancelled("the request was cancelled"))
                if self._apart is not None:
                    self._apart._obey(command)
            case Measure():
                self.emit(self._stats(command.id))
            case Stop():
                self._stopping = True

    def _admit(self, admit: Admit) -> None:
        sequences = [
            Sequence(
                request=admit.id,
                choice=choice,
                prompt=admit.prompt,
                sampling=admit.sampling,
                seed=(admit.seed + choice) & 0xFFFFFFFF,
                limit=admit.limit,
                constraint=admit.constraint.fork() if admit.constraint else None,
                drafter=self.start_drafter(admit.prompt) if self.start_drafter else None,
                circles=Circles() if self._looks_for_circles(admit) else None,
                answer=admit.listen() if admit.listen else None,
                namespace=admit.namespace,
                owner=admit.owner,
                scheduling_class=admit.scheduling_class,
                adapter=admit.adapter,
            )
            for choice in range(admit.choices)
        ]
        try:
            if self._stopping:
                raise errors.Draining("the model is being stopped", retry_after=1.0)
            if admit.sampling.deterministic and self.start_apart is not None:
                self._apart = self._apart or self.start_apart()
                self._apart._admit(admit)
                return
            self.scheduler.submit(sequences)
        except errors.HearthError as error:
            self.emit(Failed(id=admit.id, error=errors.pack(error)))
            return
        self._requests[admit.id] = Request(admit, open_choices=admit.choices)
        self.emit(
            Accepted(
                id=admit.id,
                prompt_tokens=len(admit.prompt),
                waiting=self.scheduler.places()[admit.id],
            )
        )

    def _looks_for_circles(self, admit: Admit) -> bool:
        """Not where a constraint looks itself, nor where the caller wants the text to go on in any case."""
        return self.ends_circles and admit.constraint is None and not admit.sampling.ignore_eos

    def _end_early(self, request: int, error: errors.HearthError, *, retain: bool = True) -> None:
        """Give back all that a request holds and tell why, if it is still alive."""
        for sequence in self.scheduler.cancel(request, retain=retain and self.retains):
            self._close(sequence)
        if self._requests.pop(request, None) is not None:
            self.emit(Failed(id=request, error=errors.pack(error)))

    def _enforce_deadlines(self) -> None:
        now = self.clock()
        late = [
            id
            for id, request in self._requests.items()
            if request.admit.deadline is not None and now > request.admit.deadline
        ]
        for id in late:
            self._end_early(id, errors.DeadlineExceeded("the request's deadline has passed"))

    # A step's parts

    def _announce(self, plan: Plan) -> None:
        now = self.clock()
        for sequence in plan.begun:
            request = self._requests[sequence.request]
            sequence.sampler = self.backend.sampler(sequence.sampling, sequence.seed)
            if not request.is_started:
                request.is_started, request.started = True, now
                request.cached_tokens = sequence.cached
                self.totals.prompt_tokens += sequence.prompt_length
                self.totals.cached_tokens += sequence.cached
                self.emit(
                    Started(
                        id=sequence.request,
                        prompt_tokens=sequence.prompt_length,
                        cached_tokens=sequence.cached,
                        warnings=request.admit.warnings,
                        fingerprint=self.fingerprint,
                    )
                )

    def _tell_progress(self) -> None:
        """Now and then, how far those are that have no token yet."""
        now = self.clock()
        if now - self._progress_told < PROGRESS_SECONDS:
            return
        self._progress_told = now
        silent = {
            id: request
            for id, request in self._requests.items()
            if not request.first_token and now - request.admit.arrived >= PROGRESS_SECONDS
        }
        if not silent:
            return
        places = self.scheduler.places()
        computed: dict[int, int] = {}
        for sequence in self.scheduler.running:
            computed[sequence.request] = max(computed.get(sequence.request, 0), sequence.computed)
        for id, request in silent.items():
            waiting = 0 if id in computed else places.get(id, 0) + 1
            length = len(request.admit.prompt)
            self.emit(
                Progress(
                    id=id,
                    waiting=waiting,
                    computed=min(computed.get(id, 0), length),
                    prompt_tokens=length,
                )
            )

    def _write(self, plan: Plan) -> list[Delta]:
        """What the step says in each sequence whose last token it computed."""
        deltas = []
        row = 0
        for sequence, span in zip(plan.batch, plan.spans, strict=True):
            first_row, row = row, row + span.rows
            request = self._requests.get(sequence.request)
            if span.rows == 0 or request is None:  # None: another choice of it has failed in this step
                continue
            try:
                delta = self.writer.write(sequence, first_row)
            except errors.InternalError as error:
                self._end_early(sequence.request, error)
                continue
            self.scheduler.trim(sequence)
            request.first_token = request.first_token or self.clock()
            request.completion_tokens += delta.tokens
            self.totals.completion_tokens += delta.tokens
            deltas.append(delta)
        return deltas

    def _draft(self) -> None:
        """Let sequences guess ahead, as long as there are so few that the extra rows cost little, and nobody
        waits for a first token, whom they would delay."""
        running = self.scheduler.running
        if any(sequence.is_prefilling for sequence in running):
            return
        guessing = [s for s in running if s.drafter and s.pending == 1]
        room = MOST_ROWS - len(running)
        for left, sequence in zip(range(len(guessing), 0, -1), guessing, strict=True):
            if room <= 0 or sequence.drafter is None:
                return
            share = min(max(1, room // left), sequence.room - 1)
            sequence.draft = sequence.drafter.propose(sequence.tokens, share)
            room -= len(sequence.draft)

    def _publish(self, deltas: list[Delta]) -> None:
        if not deltas:
            return
        self.emit(Step(deltas=tuple(deltas)))
        finished = {(d.id, d.choice) for d in deltas if d.finish_reason is not None}
        if not finished:
            return
        for sequence in [s for s in self.scheduler.running if (s.request, s.choice) in finished]:
            self.scheduler.finish(sequence, retain=self.retains)
            self._close(sequence)
            request = self._requests[sequence.request]
            request.open_choices -= 1
            request.reasoning_tokens += sequence.answer.reasoning_tokens
            if request.open_choices == 0:
                del self._requests[sequence.request]
                self.emit(request.ended(self.clock()))

    def _fail_batch(self, plan: Plan, error: errors.InternalError) -> None:
        """llama.cpp refused a batch: its requests end; a third refusal in a row ends the process."""
        self._failures += 1
        for id in {sequence.request for sequence in plan.batch}:
            self._end_early(id, error, retain=False)
        if self._failures >= MAX_STEP_FAILURES:
            raise error

    def _close(self, sequence: Sequence) -> None:
        """Free what the sequence holds beside its cells."""
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None
        if sequence.drafter is not None:
            sequence.drafter.close()
            sequence.drafter = None

    def _stats(self, id: int) -> WorkerStats:
        scheduler = self.scheduler
        apart = self._apart.scheduler if self._apart is not None else None
        return WorkerStats(
            id=id,
            running=len(scheduler.running) + (len(apart.running) if apart else 0),
            waiting=len(scheduler.waiting) + (len(apart.waiting) if apart else 0),
            slots=scheduler.limits.slots,
            cells=scheduler.limits.cells,
            cells_used=scheduler.ledger.used,
            prompt_tokens=self.totals.prompt_tokens,
            cached_tokens=self.totals.cached_tokens,
            completion_tokens=self.totals.completion_tokens,
            steps=self.totals.steps,
            preemptions=scheduler.preemptions,
            stored_bytes=scheduler.tree.memory_used,
            stored_disk_bytes=scheduler.tree.disk_used,
        )
