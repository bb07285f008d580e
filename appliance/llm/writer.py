"""From a step's logits to what a client may see: chooses a sequence's next tokens and writes them as a delta.

One delta may stand for several tokens: those of a draft that the model confirmed, and those that a
constraint forces. The engine decides when; this module does not know requests or steps.
"""

from __future__ import annotations

from appliance.llm import sampling
from appliance.llm.backend import Backend
from appliance.llm.dialects.answer import Said
from appliance.llm.dialects.stream import joined
from appliance.llm.sequence import LONGEST_BURST, Sequence
from appliance.records import Delta, FinishReason, TokenLogprob

CIRCLES = "the answer repeated itself without end, and was brought to a valid end"
CIRCLES_CUT = "the answer repeated itself without end, and was ended (generator.end_circles)"
CLOSED_EARLY = "the answer was brought to a valid end where max_tokens or the context left no room for more"


class Writer:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._vocabulary = backend.vocabulary

    def write(self, sequence: Sequence, first_row: int) -> Delta:
        """Choose tokens from the rows that begin at `first_row`: one for the last known token and one for
        each token of the draft, as far as the draft is confirmed. The tokens are the sequence's afterwards.

        Raises InternalError when a constraint can be neither continued nor closed.
        """
        known = len(sequence.tokens)
        pieces: list[Said] = []
        logprobs: list[TokenLogprob] = []
        reason: FinishReason | None = None
        draft, sequence.draft = sequence.draft, []
        for offset in range(1 + len(draft)):
            token = self._choose(sequence, first_row + offset, logprobs)
            reason = self._append(sequence, token, pieces) or self._limit(sequence)
            if reason is not None or offset == len(draft) or token != draft[offset]:
                break
        sequence.confirmed = len(sequence.tokens) - 1
        if sequence.drafter is not None:
            sequence.drafter.learn(len(draft), len(sequence.tokens) - known - 1)
        if reason is None:
            reason = self._append_forced(sequence, pieces)
        if reason is not None:
            pieces.append(sequence.answer.finish(whole=reason == "stop"))
            if reason == "stop" and sequence.answer.has_calls:
                reason = "tool_calls"
        said = joined(pieces)
        return Delta(
            id=sequence.request,
            choice=sequence.choice,
            text=said.text,
            reasoning=said.reasoning,
            tool_calls=said.tool_calls,
            tokens=len(sequence.tokens) - known,
            logprobs=tuple(logprobs),
            finish_reason=reason,
            stop=sequence.answer.stop_word if reason else None,
            warnings=self._warnings(sequence) if reason else (),
        )

    def _choose(self, sequence: Sequence, row: int, logprobs: list[TokenLogprob]) -> int:
        assert sequence.sampler is not None
        top = sequence.sampling.top_logprobs
        if sequence.constraint is None:
            token = sequence.sampler.pick(row)
            logits = None if top is None else self._backend.logits(row)
        else:
            masked = self._backend.logits(row)
            logits = None if top is None else masked.copy()
            token = sequence.constraint.pick(sequence.sampler, masked, row, sequence.room)
        if logits is not None and top is not None and not self._ends(sequence, token):
            logprobs.append(sampling.logprobs(logits, token, top, self._vocabulary.literal))
        return token

    def _append(self, sequence: Sequence, token: int, pieces: list[Said]) -> FinishReason | None:
        sequence.tokens.append(token)
        constraint = sequence.constraint
        if self._ends(sequence, token):
            return "length" if constraint is not None and constraint.was_closed else "stop"
        is_visible = token in sequence.answer.visible
        raw = self._vocabulary.literal(token) if is_visible else self._vocabulary.piece(token)
        pieces.append(sequence.answer.push(raw))
        if sequence.answer.stopped:
            return "length" if constraint is not None and constraint.was_closed else "stop"
        if sequence.circles is not None and sequence.circles.read(token, raw):
            sequence.went_in_circles = True
            return "length"
        return None

    def _limit(self, sequence: Sequence) -> FinishReason | None:
        """Whether nothing may follow, because the constraint's text is whole or the room is used up."""
        constraint = sequence.constraint
        if constraint is not None and constraint.is_complete:
            return "length" if constraint.was_closed else "stop"
        return "length" if sequence.room <= 0 else None

    def _append_forced(self, sequence: Sequence, pieces: list[Said]) -> FinishReason | None:
        """What a constraint leaves no choice about needs no logits; nobody asked for its probabilities."""
        constraint = sequence.constraint
        if constraint is None or sequence.sampling.top_logprobs is not None:
            return None
        for token in constraint.forced(min(sequence.room, LONGEST_BURST)):
            assert sequence.sampler is not None
            sequence.sampler.accept(token)
            if (reason := self._append(sequence, token, pieces)) is not None:
                return reason
        return self._limit(sequence)  # the constraint stands behind the last of them already

    def _warnings(self, sequence: Sequence) -> tuple[str, ...]:
        constraint, warnings = sequence.constraint, sequence.answer.warnings
        if constraint is None:
            return (*warnings, CIRCLES_CUT) if sequence.went_in_circles else warnings
        if constraint.went_in_circles:
            return (*warnings, CIRCLES)
        return (*warnings, CLOSED_EARLY) if constraint.was_closed else warnings

    def _ends(self, sequence: Sequence, token: int) -> bool:
        return self._vocabulary.ends_generation(token) and not (
            sequence.sampling.ignore_eos and sequence.constraint is None
        )
