"""What routing is asked and what it says it did: one request's facts, its route, its attempts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from appliance.config.routing import Role, Task
from appliance.records import (
    Accepted,
    ChatPrompt,
    Constraint,
    Delta,
    Ended,
    GrammarConstraint,
    JsonConstraint,
    Message,
    Progress,
    Prompt,
    RegexConstraint,
    SamplingParams,
    SchedulingClass,
    Started,
    TextPrompt,
    TokenPrompt,
)

Events = AsyncGenerator[Started | list[Delta] | Ended]

IMAGE_GUESS = 1024  # tokens of a picture: services count from 85 to some 1,500
ANSWER_GUESS = 512  # tokens, where a request sets no limit: for prices and budgets only


class Sensitive(Struct, frozen=True, kw_only=True):
    """Personal data or secrets that are in a request, by kind. `action`: what is done about them where it
    would go online; `redact` takes them out of a text.
    """

    kinds: tuple[str, ...]
    action: Literal["", "told", "redacted", "kept-local"] = ""
    redact: Callable[[str], str] | None = None

    def warning(self, *, is_local: bool) -> str:
        """What the client is told; empty where nothing could have gone online, or did."""
        found = ", ".join(self.kinds)
        if self.action == "kept-local":
            return f"the request holds sensitive data ({found}): nothing of it went online"
        if is_local or not self.action:
            return ""
        if self.action == "redacted":
            return f"sensitive data ({found}) was taken out of the request before it went online"
        return f"the request holds sensitive data ({found}) and went online as it is"


class RoutedRequest(Struct, frozen=True, kw_only=True):
    """A generation that any candidate, local or online, could answer.

    `given` names the sampling parameters that the client itself set; others are this server's defaults, and
    an upstream keeps its own. `key` is the API key's name, never the key.
    """

    model: str
    prompt: Prompt
    sampling: SamplingParams
    choices: int = 1
    constraint: Constraint | None = None
    deadline: float | None = None  # seconds from now
    given: frozenset[str] = frozenset()
    task: Task = "chat"
    key: str = ""
    conversation: str = ""
    bases: tuple[str, ...] = ()  # knowledge bases whose text is in the prompt
    is_local_only: bool = False  # one of those bases, or the caller, forbids leaving
    policy: str = ""  # the header x-hearth-policy
    scope: tuple[str, ...] | None = None  # patterns of the models that the key may use; None: all
    owner: str = ""  # whose turn it is among those that wait; empty: the key's
    namespace: str = ""  # what it shares computed prompts with; empty: as the settings say
    sensitive: Sensitive | None = None  # None: nothing was found, or looked for
    keep_alive: float | None = None  # seconds that a local model stays in memory afterwards; None: as set
    scheduling_class: SchedulingClass = "default"  # among those that wait for a local model
    on_wait: Callable[[Accepted | Progress], None] | None = None  # told of the wait for a local model


class Attempt(Struct, frozen=True, kw_only=True):
    """One upstream call, or one try of a local model. `outcome`: `ok`, `left`, or a failure's kind."""

    platform: str
    model: str
    instance: str = ""
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    arm: str = ""  # policy `split`: set where this was the arm itself, not one that stood in for it


class Continuation(Struct, frozen=True, kw_only=True):
    """Where a cut answer went on: after `characters` of its text, with `model`."""

    characters: int
    model: str


class Route(Struct, frozen=True, kw_only=True):
    """Who answers, why, and after what. For headers, usage and audit."""

    platform: str
    model: str  # public name
    is_local: bool
    policy: str
    reason: str
    arm: str = ""  # policy `split`: the arm that was chosen
    attempts: tuple[Attempt, ...] = ()
    continuations: tuple[Continuation, ...] = ()
    cost: float = 0.0

    @property
    def name(self) -> str:
        return "local" if self.is_local else "online"


def role_of(task: Task) -> Role:
    return task if task in ("embed", "rerank") else "chat"


def needs(request: RoutedRequest) -> frozenset[str]:
    """The capabilities without which a model cannot answer this request as asked."""
    wanted: set[str] = set()
    if role_of(request.task) != "chat":
        return frozenset(["tokens"] if isinstance(request.prompt, TokenPrompt) else [])
    if isinstance(request.prompt, ChatPrompt):
        has_calls = any(m.tool_calls or m.role == "tool" for m in request.prompt.messages)
        if request.prompt.tools or has_calls:
            wanted.add("tools")
        if any(m.images for m in request.prompt.messages):
            wanted.add("vision")
        if request.prompt.continues:
            wanted.add("prefill")
    elif isinstance(request.prompt, TextPrompt):
        wanted.add("completions")
    else:
        wanted.add("tokens")
    match request.constraint:
        case JsonConstraint():
            wanted.add("schema")
        case RegexConstraint() | GrammarConstraint():
            wanted.add("grammar")
        case None:
            pass
    if request.sampling.top_logprobs is not None:
        wanted.add("logprobs")
    if request.sampling.logit_bias:
        wanted.add("bias")  # biases name token ids, which differ from model to model
    return frozenset(wanted)


def continued(prompt: ChatPrompt, partial: str) -> ChatPrompt:
    """The conversation whose last turn is an answer's beginning, left open; one that is there grows."""
    if not partial:
        return prompt
    *before, last = prompt.messages
    if prompt.continues:
        turn = replace(last, content=last.content + partial)
        return replace(prompt, messages=(*before, turn))
    turn = Message(role="assistant", content=partial)
    return replace(prompt, messages=(*prompt.messages, turn), continues=True)


def guess_tokens(prompt: Prompt) -> int:
    """About how many tokens `prompt` has, for prices and budgets; no tokenizer is asked.

    A token is taken as four bytes of UTF-8: about right for English, about 3/4 of a Chinese character.
    """
    match prompt:
        case TokenPrompt():
            return len(prompt.tokens)
        case TextPrompt():
            return len(prompt.text.encode("utf-8", "replace")) // 4 + 1
        case ChatPrompt():
            size = sum(len(m.content.encode("utf-8", "replace")) // 4 + 4 for m in prompt.messages)
            pictures = sum(len(m.images) for m in prompt.messages)
            return size + IMAGE_GUESS * pictures + 64 * len(prompt.tools) + 3
