"""Who is next: the waiting sequences in a fair order over classes and owners.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): every (class, owner) is a flow with a virtual time that
advances by the tokens it is served, divided by its class's weight; the flow that is furthest behind is next.
So no flow starves, and one owner's thousand requests delay another's one by one of them. Pure: no clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.llm.sequence import Sequence
from appliance.records import SchedulingClass

WEIGHTS: dict[SchedulingClass, float] = {"priority": 32.0, "default": 8.0, "flex": 1.0, "batch": 0.25}
ANSWER_GUESS = 128  # tokens that an answer is charged with beforehand; `settle` corrects it
MOST_IDLE_FLOWS = 1024


@dataclass
class _Flow:
    weight: float
    virtual: float
    waiting: deque[Sequence] = field(default_factory=deque)


class FairQueue:
    def __init__(self) -> None:
        self._returning: deque[Sequence] = deque()  # lost their place for want of cells: first of all
        self._flows: dict[tuple[SchedulingClass, str], _Flow] = {}
        self._virtual = 0.0  # the flows' common time: that of the last one taken
        self.tokens = 0  # of the waiting prompts

    def add(self, sequence: Sequence) -> None:
        self._flow(sequence).waiting.append(sequence)
        self.tokens += sequence.prompt_length

    def give_way(self, sequence: Sequence, first: Sequence) -> None:
        """Back before its owner's others, but behind `first`, for which it was paused."""
        flow = self._flow(sequence)
        flow.waiting.appendleft(sequence)
        if first not in self._returning:
            flow.virtual = max(flow.virtual, self._flow(first).virtual + 1)
        self.tokens += sequence.prompt_length

    def put_back(self, sequence: Sequence) -> None:
        """Back before everyone's: it had been admitted, but the cells have run out."""
        self._returning.appendleft(sequence)
        self.tokens += sequence.prompt_length

    def take(self, sequence: Sequence) -> None:
        """It is admitted: out of the queue, and its flow pays."""
        if sequence not in self._returning:
            flow = self._flows[sequence.scheduling_class, sequence.owner]
            self._virtual = max(self._virtual, flow.virtual)
            flow.virtual += _cost(sequence) / flow.weight
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It leaves without having been served."""
        if sequence in self._returning:
            self._returning.remove(sequence)
        else:
            self._flows[sequence.scheduling_class, sequence.owner].waiting.remove(sequence)
            self._prune()
        self.tokens -= sequence.prompt_length

    def settle(self, sequence: Sequence) -> None:
        """Its answer has ended: its flow pays for the tokens that it really had."""
        flow = self._flows.get((sequence.scheduling_class, sequence.owner))
        if flow is not None:
            flow.virtual += (sequence.generated - ANSWER_GUESS) / flow.weight

    def __iter__(self) -> Iterator[Sequence]:
        """In the order in which they would be taken if nothing came after them."""
        yield from self._returning
        heap = [
            (flow.virtual, flow.waiting[0].request, flow.waiting[0].choice, 0, key)
            for key, flow in self._flows.items()
            if flow.waiting
        ]
        heapq.heapify(heap)
        while heap:
            virtual, _, _, index, key = heapq.heappop(heap)
            flow = self._flows[key]
            sequence = flow.waiting[index]
            yield sequence
            if index + 1 < len(flow.waiting):
                after = flow.waiting[index + 1]
                paid = virtual + _cost(sequence) / flow.weight
                heapq.heappush(heap, (paid, after.request, after.choice, index + 1, key))

    def __len__(self) -> int:
        return len(self._returning) + sum(len(flow.waiting) for flow in self._flows.values())

    def _flow(self, sequence: Sequence) -> _Flow:
        key = (sequence.scheduling_class, sequence.owner)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(WEIGHTS[sequence.scheduling_class], self._virtual)
        elif not flow.waiting:
            flow.virtual = max(flow.virtual, self._virtual)
        return flow

    def _prune(self) -> None:
        """Forget flows that wait for nothing and owe nothing; in a crowd, those that owe the least."""
        idle = [(flow.virtual, key) for key, flow in self._flows.items() if not flow.waiting]
        idle.sort(reverse=True)
        for place, (virtual, key) in enumerate(idle):
            if virtual <= self._virtual or place >= MOST_IDLE_FLOWS:
                del self._flows[key]


def _cost(sequence: Sequence) -> int:
    return sequence.pending + ANSWER_GUESS
