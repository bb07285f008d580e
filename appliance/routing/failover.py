"""One routed generation: candidates in their order until one has answered to the end.

Before its first text a candidate that fails is replaced unseen: once by itself after a random pause where
that may help, then by the next; with hedging the next is asked early and the first to speak wins. After the
first text a cut answer goes on from the partial text on the next candidate that can do that. Upstream calls
are bounded. Every text is given out once: what was given is what the next candidate is told to go on from.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import msgspec

from appliance.config.routing import Routing
from appliance.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    Unavailable,
)
from appliance.records import ChatPrompt, Delta, Ended, Started, TextPrompt, Timings, TokenPrompt, Usage
from appliance.routing.answer import Answer, LocalAnswer, LocalModel, open_online
from appliance.routing.balance import Balancer
from appliance.routing.budgets import Budgets
from appliance.routing.decision import Candidate, Decision
from appliance.routing.exhausted import another_may_answer, nobody_answered
from appliance.routing.failure import UpstreamFailure
from appliance.routing.registry import Model
from appliance.routing.request import Attempt, Continuation, Events, Route, RoutedRequest, guess_tokens
from appliance.routing.upstream import ANSWER_SECONDS, Upstreams
from appliance.routing.wire import left_out

_ids = itertools.count(1)


class Observer(Protocol):
    """Who counts. Called on the event loop; must not block or raise."""

    def note_attempt(self, model: Model, attempt: Attempt) -> None: ...

    def note_answer(self, model: Model, route: Route, usage: Usage, timings: Timings) -> None: ...


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidates of one configuration are reached through."""

    routing: Routing
    balancers: Mapping[str, Balancer]
    upstreams: Upstreams
    platform_types: Mapping[str, str]
    local: Mapping[str, LocalModel]
    budgets: Budgets | None
    observer: Observer


class Routed:
    """A generation that has been decided and not yet begun. `events` once; `route` at any time, final at
    the end.
    """

    def __init__(self, request: RoutedRequest, decision: Decision, through: Candidates) -> None:
        self.decision = decision
        self._request = request
        self._through = through
        self._queue = deque(decision.require())
        self._id = next(_ids)
        self._begun_at = time.monotonic()
        self._attempts: list[Attempt] = []
        self._failures: list[UpstreamFailure] = []
        self._continuations: list[Continuation] = []
        self._usages: list[Usage] = []
        self._cost = 0.0
        self._started_usage: Usage | None = None
        self._calls = 0
        self._said: list[str] = []
        self._tokens = 0
        self._ended_choices: set[int] = set()
        self._obstacle = ""  # why what was said cannot be gone on from
        self._chosen = self._queue[0]
        self._reason = self._chosen.reason

    @property
    def route(self) -> Route:
        model = self._chosen.model
        return Route(
            platform=model.platform,
            model=model.public_name,
            is_local=model.is_local,
            policy=self.decision.policy,
            reason=self._reason,
            arm=self._chosen.arm,
            attempts=tuple(self._attempts),
            continuations=tuple(self._continuations),
            cost=self._cost,
        )

    @property
    def usage(self) -> Usage | None:
        """What it has taken so far; None while nobody has begun."""
        began = self._started_usage
        if began is None:
            return None
        counted = sum(each.completion_tokens for each in self._usages)
        first = self._usages[0] if self._usages else began
        return Usage(
            prompt_tokens=first.prompt_tokens,
            cached_tokens=first.cached_tokens,
            completion_tokens=max(counted, self._tokens),
        )

    async def events(self) -> Events:
        """Started, deltas, Ended, as a local generator gives them. Raises typed errors only.

        Started comes when somebody really answers: `route` then says who. Closing the iteration closes the
        upstream.
        """
        answer: Answer | None = None
        first_at = 0.0
        try:
            while True:
                answer = await self._next()
                if not first_at:
                    first_at = time.monotonic()
                    yield self._started(answer)
                else:
                    place = Continuation(characters=len("".join(self._said)), model=self.route.model)
                    self._continuations.append(place)
                    if place.characters:
                        yield [self._mark(place)]
                try:
                    deltas = answer.first if answer.first is not None else await answer.read()
                    while deltas is not None:
                        yield self._given_out(deltas)
                        deltas = await answer.read()
                except UpstreamFailure as failure:
                    self._note(answer.candidate, answer.instance, failure.kind, failure, answer.begun_at)
                    self._count(answer)
                    cut, answer = answer, None
                    await cut.end(failure)
                    if not self._is_full() and not self._is_finished():
                        self._go_on_without(failure)
                        continue
                    if not self._is_finished():
                        yield [Delta(id=self._id, choice=0, text="", tokens=0, finish_reason="length")]
                    yield self._ended(cut, first_at)
                    return
                self._note(answer.candidate, answer.instance, "ok", None, answer.begun_at)
                self._count(answer)
                whole, answer = answer, None
                await whole.end(None)
                ended = self._ended(whole, first_at)
                self._through.observer.note_answer(
                    whole.candidate.model, self.route, ended.usage, ended.timings
                )
                yield ended
                return
        finally:
            if answer is not None:
                self._note(answer.candidate, answer.instance, "left", None, answer.begun_at)
                await answer.end(None, is_left=True)

    # What is given out

    def _started(self, answer: Answer) -> Started:
        model = answer.candidate.model
        warnings = answer.started.warnings if answer.started else ()
        if not model.is_local:
            warnings = (*warnings, *left_out(self._request, self._through.platform_types[model.platform]))
        if (found := self._request.sensitive) is not None:
            said = found.warning(is_local=model.is_local)
            warnings = (*warnings, said) if said else warnings
        prompt_tokens = answer.started.prompt_tokens if answer.started else guess_tokens(self._request.prompt)
        cached = answer.started.cached_tokens if answer.started else 0
        self._started_usage = Usage(prompt_tokens=prompt_tokens, cached_tokens=cached, completion_tokens=0)
        return Started(
            id=self._id,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            warnings=warnings,
            fingerprint=answer.started.fingerprint if answer.started else "",
        )

    def _mark(self, place: Continuation) -> Delta:
        """Tells the client, with no text, that another model goes on from here."""
        warning = f"the answer was cut after {place.characters} characters; {place.model} goes on from there"
        return Delta(id=self._id, choice=0, text="", tokens=0, warnings=(warning,))

    def _given_out(self, deltas: list[Delta]) -> list[Delta]:
        for delta in deltas:
            self._said.append(delta.text)
            self._tokens += delta.tokens
            if delta.finish_reason is not None:
                self._ended_choices.add(delta.choice)
            if delta.tool_calls:
                self._obstacle = "it had begun a tool call"
            elif delta.reasoning:
                self._obstacle = self._obstacle or "it had begun to reason"
        return deltas

    def _count(self, answer: Answer) -> None:
        usage = answer.usage or Usage(
            prompt_tokens=guess_tokens(self._request.prompt), completion_tokens=answer.tokens
        )
        self._usages.append(usage)
        self._cost += answer.candidate.model.price(usage.prompt_tokens, usage.completion_tokens)

    def _ended(self, answer: Answer, first_at: float) -> Ended:
        now = time.monotonic()
        timings = answer.timings
        if timings is None or len(self._usages) > 1 or len(self._attempts) > 1:
            begun = self._begun_at if len(self._usages) > 1 else answer.begun_at
            timings = Timings(
                queued=begun - self._begun_at, prefill=max(0.0, first_at - begun), decode=now - first_at
            )
        usage = Usage(
            prompt_tokens=self._usages[0].prompt_tokens,
            completion_tokens=sum(each.completion_tokens for each in self._usages),
            cached_tokens=self._usages[0].cached_tokens,
            reasoning_tokens=sum(each.reasoning_tokens for each in self._usages),
        )
        return Ended(id=self._id, usage=usage, timings=timings)

    # Who is next

    async def _next(self) -> Answer:
        """The next candidate that says something. Raises the typed error when there is none left."""
        while self._queue:
            candidate = self._queue.popleft()
            hedge = self._through.routing.hedge_seconds
            try:
                if hedge and self._queue and not self._said:
                    answer = await self._open_hedged(candidate, hedge)
                else:
                    answer = await self._open(candidate)
            except UpstreamFailure as failure:
                self._failures.append(failure)
                if failure.error is not None and not another_may_answer(failure.error):
                    raise failure.error from None
                if self._seconds_left() <= 0:
                    raise self._out_of_time() from None
                continue
            self._chosen = answer.candidate
            self._reason = self._reason_for(answer.candidate)
            return answer
        raise nobody_answered(self._failures, self._attempts)

    async def _open_hedged(self, candidate: Candidate, after: float) -> Answer:
        """`candidate`, and after a while the next one as well; who speaks first is kept, the other is
        closed.
        """
        running = {asyncio.ensure_future(self._open(candidate))}
        await asyncio.wait(running, timeout=after)
        if not all(task.done() for task in running) and self._queue:
            running.add(asyncio.ensure_future(self._open(self._queue.popleft())))
        failure: BaseException | None = None
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                winners = [task.result() for task in done if task.exception() is None]
                for late in winners[1:]:
                    await late.end(None, is_left=True)
                if winners:
                    return winners[0]
                failure = next(iter(done)).exception()
                if not isinstance(failure, UpstreamFailure):
                    break
        finally:
            for task in running:
                task.cancel()
            for result in await asyncio.gather(*running, return_exceptions=True):
                if not isinstance(result, BaseException):
                    await result.end(None, is_left=True)
        assert failure is not None
        raise failure

    async def _open(self, candidate: Candidate) -> Answer:
        if candidate.model.is_local:
            return await self._open_local(candidate)
        avoid: set[str] = set()
        try:
            return await self._call(candidate, avoid)
        except UpstreamFailure as failure:
            if not failure.is_transient or self._said or self._seconds_left() <= 0:
                raise
        await asyncio.sleep(random.uniform(0, self._through.routing.retry_jitter))
        return await self._call(candidate, avoid)

    async def _call(self, candidate: Candidate, avoid: set[str]) -> Answer:
        if self._calls >= self._through.routing.calls:
            raise UpstreamFailure("busy", f"{self._calls} upstream calls were made for this request already")
        self._calls += 1
        begun = time.monotonic()
        asked = set(avoid)
        try:
            return await open_online(
                candidate,
                self._through.balancers[candidate.model.id],
                self._through.upstreams,
                self._through.budgets,
                self._rest_of_request(),
                partial="".join(self._said) if isinstance(self._request.prompt, ChatPrompt) else "",
                seconds=self._seconds_left(),
                goes_on=bool(self._said),
                avoid=avoid,
            )
        except UpstreamFailure as failure:
            self._note(candidate, "".join(avoid - asked), failure.kind, failure, begun)
            raise
        except asyncio.CancelledError:
            self._note(candidate, "".join(avoid - asked), "left", None, begun)
            raise

    async def _open_local(self, candidate: Candidate) -> Answer:
        left = self._seconds_left()
        partial = "".join(self._said) if isinstance(self._request.prompt, ChatPrompt) else ""
        events = self._through.local[candidate.model.name].generate(
            self._rest_of_request(),
            partial=partial,
            deadline=None if self._request.deadline is None else left,
        )
        answer = LocalAnswer(candidate, events)
        try:
            await answer.open()
        except UpstreamFailure as failure:
            await answer.end(failure)
            self._note(candidate, "", failure.kind, failure, answer.begun_at)
            raise
        except BaseException:
            await answer.end(None, is_left=True)
            raise
        return answer

    def _rest_of_request(self) -> RoutedRequest:
        """The request that is left to be answered: a text goes on from its new end, tokens are used up."""
        if not self._said:
            return self._request
        request = self._request
        prompt = request.prompt
        if isinstance(prompt, TextPrompt):
            prompt = TextPrompt(text=prompt.text + "".join(self._said))
        sampling = request.sampling
        if sampling.max_tokens is not None:
            left = max(1, sampling.max_tokens - self._tokens)
            sampling = msgspec.structs.replace(sampling, max_tokens=left)
        return msgspec.structs.replace(request, prompt=prompt, sampling=sampling)

    def _is_finished(self) -> bool:
        """The cut came after every choice's end had been given out: only the count of tokens is missing."""
        return len(self._ended_choices) >= self._request.choices

    def _is_full(self) -> bool:
        """The cut came after the last token that the request allows: nothing is missing."""
        most = self._request.sampling.max_tokens
        return most is not None and self._request.choices == 1 and self._tokens >= most

    def _seconds_left(self) -> float:
        deadline = self._request.deadline
        return ANSWER_SECONDS if deadline is None else deadline - (time.monotonic() - self._begun_at)

    # After a cut

    def _go_on_without(self, failure: UpstreamFailure) -> None:
        """Keep the candidates that can go on from what was said. Raises when nobody can, or nothing may."""
        self._failures.append(failure)
        is_last = not any(self._can_continue(each.model) for each in self._queue)
        if failure.error is not None and (is_last or isinstance(failure.error, Cancelled | Draining)):
            raise failure.error
        if self._seconds_left() <= 0:
            raise self._out_of_time()
        if not "".join(self._said) and not self._obstacle:
            self._said.clear()
            return
        request = self._request
        if not self._through.routing.continue_cut:
            self._obstacle = "the settings forbid it"
        elif request.choices > 1:
            self._obstacle = "it has several choices"
        elif request.constraint is not None:
            self._obstacle = "its text is bound by a schema or grammar"
        elif isinstance(request.prompt, TokenPrompt):
            self._obstacle = "its prompt is token ids"
        able = [each for each in self._queue if self._can_continue(each.model)]
        if not self._obstacle and not able:
            self._obstacle = "no other model can"
        if self._obstacle:
            raise Unavailable(
                f"the answer was cut off ({failure.kind}) and cannot go on: {self._obstacle}",
                code="answer_cut",
            ) from failure.error
        self._queue = deque(able)

    def _can_continue(self, model: Model) -> bool:
        return model.is_local or isinstance(self._request.prompt, TextPrompt) or model.continuation != "none"

    # Words

    def _note(
        self,
        candidate: Candidate,
        instance: str,
        outcome: str,
        failure: UpstreamFailure | None,
        begun_at: float,
    ) -> None:
        attempt = Attempt(
            platform=candidate.model.platform,
            model=candidate.model.public_name,
            instance=instance,
            outcome=outcome,
            detail=failure.detail if failure is not None else "",
            seconds=time.monotonic() - begun_at,
            arm=candidate.arm if candidate.model.public_name == candidate.arm else "",
        )
        self._attempts.append(attempt)
        self._through.observer.note_attempt(candidate.model, attempt)

    def _reason_for(self, candidate: Candidate) -> str:
        failed = [each for each in self._attempts if each.outcome not in ("ok", "left")]
        if not failed:
            left = [
                f"{each.model.public_name}: {each.reason}"
                for each in self.decision.rejected
                if each.why in ("budget", "down")
            ]
            return "; ".join([candidate.reason, *left])[:500]
        last = failed[-1]
        return f"{candidate.reason}; {last.model} failed: {last.outcome}"[:500]

    def _out_of_time(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the request's {self._request.deadline:g} s were over before its answer was")
