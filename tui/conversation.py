"""A conversation as the chat screen has it: what was said, what is asked now, how it is written. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Turn:
    """`sources`: citations as the API tells them, out of the knowledge base with the id `base`. `note`: how
    the answer came, or why it ended early.
    """

    role: Literal["user", "assistant"]
    text: str = ""
    sources: list[dict[str, Any]] = field(default_factory=list)
    base: str = ""
    note: str = ""


@dataclass
class Parameters:
    """What goes with every question; None: as the server has it."""

    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def options(self) -> dict[str, Any]:
        """The request's own words for those that are given."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_completion_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class Conversation:
    """`model` and `base`: the names that were asked last, at the server with that address. `changed_at`: Unix
    seconds.
    """

    turns: list[Turn] = field(default_factory=list)
    parameters: Parameters = field(default_factory=Parameters)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    server: str = ""
    model: str = ""
    base: str = ""
    changed_at: float = 0.0

    @property
    def title(self) -> str:
        """Its first question."""
        return next((turn.text.splitlines()[0] for turn in self.turns if turn.text.strip()), "")

    def ask(self, question: str) -> Turn:
        """Adds the question and the answer that is to come."""
        self.turns += [Turn("user", question), Turn("assistant")]
        return self.turns[-1]

    def ask_again(self) -> Turn | None:
        """Drops the last answer for another one; None where nothing was asked."""
        if self.turns and self.turns[-1].role == "assistant":
            self.turns.pop()
        if not self.turns:
            return None
        self.turns.append(Turn("assistant"))
        return self.turns[-1]

    def messages(self) -> list[dict[str, str]]:
        """What is asked now: all before the answer that is to come."""
        system = self.parameters.system
        opening = [{"role": "system", "content": system}] if system else []
        said = (turn for turn in self.turns[:-1] if turn.text)
        return [*opening, *({"role": turn.role, "content": turn.text} for turn in said)]

    def question_of(self, answer: Turn) -> str:
        """What the answer answers."""
        before = ""
        for turn in self.turns:
            if turn is answer:
                return before
            before = turn.text if turn.role == "user" else before
        return ""

    def last_answer(self) -> Turn | None:
        return next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)

    def markdown(self, names: dict[str, str], sources: str) -> str:
        """The whole as Markdown; `names`: how the roles are headed, `sources`: how the list of them is."""
        parts: list[str] = []
        for turn in self.turns:
            parts += [f"## {names[turn.role]}", turn.text]
            if turn.sources:
                listed = "\n".join(f"{each['number']}. {place(each)}" for each in distinct(turn.sources))
                parts.append(f"**{sources}**\n\n{listed}")
        return "\n\n".join(parts) + "\n"


def distinct(sources: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each source once, in the order of their numbers."""
    found = {source["number"]: source for source in sources}
    return [found[number] for number in sorted(found)]


def place(source: dict[str, Any]) -> str:
    """Where a source stands: file, page, heading."""
    page = f", p. {source['page']}" if source["page"] else ""
    heading = f", {source['heading']}" if source["heading"] else ""
    return f"{source['filename']}{page}{heading}"
