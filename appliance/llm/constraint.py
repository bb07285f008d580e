"""A sequence under a constraint: every token fits, and the text is whole before the token budget ends.

Knows how to get out: from wherever the text stands, a shortest valid ending is found in time, and taken when
the next token would make it too long, or when the text goes in circles. Pure but for the matcher it drives.
"""

from __future__ import annotations

from appliance.errors import InternalError, InvalidValue
from appliance.llm.backend import Logits, Sampler
from appliance.llm.circles import Circles
from appliance.llm.grammar import LONGEST_CLOSING, Matcher


class Closing:
    """Keeps a constrained answer inside its token budget: it may grow only while it can still be closed.

    Looking for the way out costs as many masks as it has tokens, so it is looked for only when it could have
    become too long: one token is taken to lengthen it by at most the longest that was seen so far.
    """

    def __init__(self, matcher: Matcher, budget: int) -> None:
        """Raises InvalidValue when even the shortest valid answer is longer than `budget` tokens."""
        self._matcher = matcher
        way_out = matcher.closing(at_most=min(budget, LONGEST_CLOSING))
        if way_out is None:
            raise InvalidValue(
                f"no answer that fits the constraint ends within {budget} tokens; raise max_tokens",
                param="max_tokens",
            )
        self._longest = len(way_out)
        self._look_at = self._next_look(budget, len(way_out))
        self._way_out: list[int] | None = None  # from where the text stands now; None: not looked for yet
        self.is_closing = False

    @property
    def has_closed(self) -> bool:
        return self.is_closing and not self._way_out

    def steer(self, token: int, room: int) -> int:
        """`token`, which the matcher allows, or the first token of the way out if `token` leads too far:
        an end token where the text is whole as it stands.

        `room` counts the tokens that may still come, this one included. Raises InternalError when the
        text cannot be closed any more, which the look-ahead is there to prevent.
        """
        if self.is_closing:
            return self._next_out()
        if room > self._look_at:  # no way out can have become too long yet
            self._way_out = None
            return token
        trial = self._matcher.fork()
        trial.accept(token)
        beyond = trial.closing(at_most=room - 1)
        if beyond is not None:
            self._way_out = beyond
            self._longest = max(self._longest, len(beyond))
            self._look_at = self._next_look(room - 1, len(beyond))
            return token
        self.is_closing = True
        if self._way_out is None:
            self._way_out = self._matcher.closing(at_most=room)
        return self._matcher.any_end if self._way_out == [] else self._next_out()

    def leave(self, room: int) -> bool:
        """Walk out from where the text stands, if that can be done within `room` tokens."""
        way_out = self._matcher.closing(at_most=room)
        if way_out is not None:
            self._way_out, self.is_closing = way_out, True
        return self.is_closing

    def has_moved(self, tokens: list[int]) -> None:
        """The text has grown by `tokens`, which had to come. They begin the way out too, if one is known."""
        known, self._way_out = self._way_out, None
        if known is not None and known[: len(tokens)] == tokens:
            self._way_out = known[len(tokens) :]

    def _next_out(self) -> int:
        if not self._way_out:
            raise InternalError("the constrained answer could not be closed within its token budget")
        return self._way_out.pop(0)

    def _next_look(self, room: int, way_out: int) -> int:
        """The room at which to look again."""
        return room - (room - way_out) // (2 * (self._longest + 1))


class Constrained:
    """One sequence's constraint: where it stands and how it will end."""

    def __init__(self, matcher: Matcher, budget: int) -> None:
        """Raises InvalidValue when no valid answer fits into `budget` tokens."""
        self._matcher = matcher
        self._closing = Closing(matcher, budget)
        self._budget = budget
        self._circles = Circles()
        self.went_in_circles = False

    def fork(self) -> Constrained:
        """The same constraint from its beginning, for another choice of the request."""
        return Constrained(self._matcher.fork(), self._budget)

    def pick(self, sampler: Sampler, logits: Logits, row: int, room: int) -> int:
        """The next token, which may be an end token where the text may end. Writes into `logits`.

        Raises InternalError when the text can be neither continued nor closed.
        """
        if self._closing.is_closing:
            token = self._closing.steer(-1, room)
        else:
            token = self._pick_allowed(sampler, logits, row)
            if not self._matcher.ends(token):
                token = self._closing.steer(token, room)
        if self._matcher.ends(token):
            return token
        self._matcher.accept(token)
        if self._circles.add((token,)) and not self._closing.is_closing:
            self.went_in_circles = self._closing.leave(room - 1)
        return token

    def _pick_allowed(self, sampler: Sampler, logits: Logits, row: int) -> int:
        """What the model would say anyway, where that is allowed: a mask is made only where it is not."""
        if sampler.is_memoryless:
            token = sampler.pick(row)
            if self._matcher.allows(token):
                return token
        self._matcher.restrict(logits)
        return sampler.pick(row)

    def forced(self, room: int) -> list[int]:
        """Tokens that must follow in any case; the text stands behind them afterwards."""
        if self._closing.is_closing or self._matcher.is_complete:
            return []
        tokens = self._matcher.forced()
        if len(tokens) >= room:
            return []
        for token in tokens:
            self._matcher.accept(token)
        self._closing.has_moved(tokens)
        self._circles.add(tokens)
        return tokens

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole: nothing may follow, or the way out has been walked to its end."""
        return self._matcher.is_complete or self._closing.has_closed

    @property
    def was_closed(self) -> bool:
        """Whether the token budget, not the model, ended the text."""
        return self._closing.is_closing and not self.went_in_circles
