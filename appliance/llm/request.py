"""A request as the engine has it: what it was admitted with, and what is remembered of it until its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.llm.constraint import Constrained
from appliance.llm.dialects.stream import AnswerStream
from appliance.records import Ended, SamplingParams, SchedulingClass, Timings, Usage


@dataclass(frozen=True)
class Admit:
    """A request whose prompt is tokens by now, from the preparing thread."""

    id: int
    prompt: list[int]
    sampling: SamplingParams
    choices: int
    seed: int
    limit: int  # tokens at which each choice ends with "length"
    arrived: float
    deadline: float | None
    warnings: tuple[str, ...] = ()
    constraint: Constrained | None = None
    listen: Callable[[], AnswerStream] | None = None  # one for each choice; None: answers are plain text
    scheduling_class: SchedulingClass = "default"
    owner: str = ""
    adapter: str = ""
    namespace: str = ""


@dataclass
class Request:
    """What the engine remembers of a request between its first and its last event."""

    admit: Admit
    open_choices: int
    started: float = 0.0
    first_token: float = 0.0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    is_started: bool = False

    def ended(self, now: float) -> Ended:
        """Its last event, at the moment `now`."""
        return Ended(
            id=self.admit.id,
            usage=Usage(
                prompt_tokens=len(self.admit.prompt),
                completion_tokens=self.completion_tokens,
                cached_tokens=self.cached_tokens,
                reasoning_tokens=self.reasoning_tokens,
            ),
            timings=Timings(
                queued=self.started - self.admit.arrived,
                prefill=self.first_token - self.started,
                decode=now - self.first_token,
            ),
        )
