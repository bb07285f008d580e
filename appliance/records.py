"""The frozen records that pass between rooms and between processes.

Everything here is plain data: no behaviour, no I/O, no knowledge of HTTP or of any engine. A record that
crosses a process boundary is a tagged msgspec struct, so its one definition is also its wire format.

Units: times are seconds, sizes bytes, lengths tokens, probabilities natural logarithms.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
PromptKind = Literal["query", "passage"]
WorkerRole = Literal["chat", "embed", "rerank"]
SchedulingClass = Literal["priority", "default", "flex", "batch"]


# Requests for text


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call that a model made; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


class Tool(Struct, frozen=True, kw_only=True):
    """A function that a model may call; `parameters` is a JSON schema for its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(Struct, frozen=True, kw_only=True):
    """`auto`: text or calls, as the model likes; `required`: calls only. `names` None: any of the tools."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None
    parallel: bool = True


class Image(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A picture in a turn, as its client gave it: a `data:` or a web address, for an online model to look at.

    It stands after the first `after` characters of the turn's content.
    """

    url: str
    detail: str = ""
    after: int = 0


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation; `developer` has already become `system` when a template knows no other.

    A turn of role `tool` answers the call `tool_call_id`; `name` is then the tool's.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str = ""
    images: tuple[Image, ...] = ()


class ChatPrompt(Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation, to be rendered with the model's own template.

    `continues`: the last turn is an answer's beginning, which is left open; the answer is what follows it.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    reasoning_effort: str | None = None  # None: as the template has it
    template_options: dict[str, Any] = {}
    continues: bool = False


class TextPrompt(Struct, frozen=True, kw_only=True, tag="text"):
    """Text to continue as it stands."""

    text: str


class TokenPrompt(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Token ids to continue as they stand."""

    tokens: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class SamplingParams(Struct, frozen=True, kw_only=True):
    """How the next token is chosen, and when to stop. Bounds are the API's business; see api/schemas."""

    max_tokens: int | None = None  # None: until the context is full
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: the whole vocabulary
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    seed: int | None = None  # None: a fresh seed per request
    logit_bias: dict[int, float] = {}
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None  # None: no logprobs at all; 0: the chosen token's only
    ignore_eos: bool = False
    deterministic: bool = False  # computed apart from everything that could change its rounding


# Constraints on the answer's text


class JsonConstraint(Struct, frozen=True, kw_only=True, tag="json"):
    """The answer is JSON that fits `schema`; None: any JSON object."""

    schema: dict[str, Any] | bool | None = None


class RegexConstraint(Struct, frozen=True, kw_only=True, tag="regex"):
    """The whole answer matches `pattern`, in Rust's regex syntax."""

    pattern: str


class GrammarConstraint(Struct, frozen=True, kw_only=True, tag="grammar"):
    """The whole answer is derived from `text`, a grammar in llama.cpp's GBNF or in Lark."""

    text: str
    syntax: Literal["gbnf", "lark"]


Constraint = JsonConstraint | RegexConstraint | GrammarConstraint


# Commands to a generator


class Generate(Struct, frozen=True, kw_only=True, tag="generate"):
    """Produce `choices` continuations of one prompt. `id` is unique within the connection."""

    id: int
    prompt: Prompt
    sampling: SamplingParams
    choices: int = 1
    constraint: Constraint | None = None
    deadline: float | None = None  # seconds from acceptance; None: no limit
    scheduling_class: SchedulingClass = "default"
    owner: str = ""  # whose turn it is, where several wait
    namespace: str = ""  # only requests of one namespace share what was computed of their prompts
    adapter: str = ""  # of the order's adapters, the one that answers with the model; empty: none


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel"):
    """End a request now, whatever its state. Unknown ids are ignored: it may just have ended."""

    id: int


class Tokenize(Struct, frozen=True, kw_only=True, tag="tokenize"):
    id: int
    prompt: Prompt


class Detokenize(Struct, frozen=True, kw_only=True, tag="detokenize"):
    id: int
    tokens: tuple[int, ...]


class Measure(Struct, frozen=True, kw_only=True, tag="measure"):
    """Ask a worker for its `WorkerStats`."""

    id: int


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """Finish what is running, refuse what comes, then exit."""


# Commands to the encoder


class Embed(Struct, frozen=True, kw_only=True, tag="embed"):
    """Embed texts or token ids; `kind` chooses the model's prefix where it has one."""

    id: int
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    kind: PromptKind = "passage"
    dimensions: int | None = None


class Rerank(Struct, frozen=True, kw_only=True, tag="rerank"):
    """Score each document against the query."""

    id: int
    model: str
    query: str
    documents: tuple[str, ...]


# Events from workers


class Loading(Struct, frozen=True, kw_only=True, tag="loading"):
    model: str
    fraction: float


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What a loaded model says of itself."""

    name: str
    role: WorkerRole
    context_length: int  # the longest prompt plus answer of one request
    vocabulary: int
    parameters: int = 0
    dimensions: int = 0
    weight_bytes: int = 0
    cache_bytes: int = 0
    backend: str = ""  # which compute backend and CPU variant runs it
    load_seconds: float = 0.0


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    models: tuple[ModelFacts, ...]


class Accepted(Struct, frozen=True, kw_only=True, tag="accepted"):
    """The request is in order and will be answered, unless something breaks; `waiting` are before it."""

    id: int
    prompt_tokens: int
    waiting: int = 0


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    """The request still waits behind `waiting` others; or, with 0, `computed` tokens of its prompt are in."""

    id: int
    waiting: int
    computed: int
    prompt_tokens: int


class Started(Struct, frozen=True, kw_only=True, tag="started"):
    """The request has its slot; `cached_tokens` of its prompt were not computed again."""

    id: int
    prompt_tokens: int
    cached_tokens: int = 0
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""  # of all on the server's side that decides the text; "": nobody knows


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token's log-probability and its `top` rivals, best first."""

    token: int
    raw: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """A piece of the `index`-th tool call: `id` and `name` with its first piece, arguments as they grow."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Citation(Struct, frozen=True, kw_only=True):
    """A mark [number] at [start_index, end_index) of an answer, and the passage it stands for: the characters
    [begins, ends) of a document's text. `page` 0: the format has no pages."""

    number: int
    start_index: int
    end_index: int
    file_id: str
    filename: str
    page: int
    heading: str
    begins: int
    ends: int
    quote: str
    score: float


class Delta(Struct, frozen=True, kw_only=True):
    """What one decode step added to one choice. `text` always ends on a whole UTF-8 character."""

    id: int
    choice: int
    text: str
    tokens: int  # how many new tokens `text` and `logprobs` stand for
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop: str | None = None  # the stop string that ended the choice, with its last delta
    warnings: tuple[str, ...] = ()  # about the answer, with its last delta
    citations: tuple[Citation, ...] = ()  # of the whole answer, with its last delta


class Step(Struct, frozen=True, kw_only=True, tag="step"):
    """All that one decode step produced, for every running request: one frame per step."""

    deltas: tuple[Delta, ...]


class Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0  # of the completion tokens


class Timings(Struct, frozen=True, kw_only=True):
    """Where a request's time went."""

    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """The request is over and well; nothing more comes for its id."""

    id: int
    usage: Usage
    timings: Timings


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The request is over with an error, as `errors.pack` wrote it; nothing more comes for its id."""

    id: int
    error: dict[str, str | float | None]


class Tokens(Struct, frozen=True, kw_only=True, tag="tokens_reply"):
    id: int
    tokens: tuple[int, ...]


class Text(Struct, frozen=True, kw_only=True, tag="text_reply"):
    id: int
    text: str


class Embeddings(Struct, frozen=True, kw_only=True, tag="embeddings"):
    """`vectors`: float32, little endian, row-major, shape [inputs, dimensions]."""

    id: int
    vectors: bytes
    dimensions: int
    tokens: int


class Scores(Struct, frozen=True, kw_only=True, tag="scores"):
    """One raw logit per document, in the order given."""

    id: int
    logits: tuple[float, ...]
    tokens: int
    warnings: tuple[str, ...] = ()


class WorkerStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """A worker's gauges and counters since its start."""

    id: int
    running: int = 0
    waiting: int = 0
    slots: int = 0
    cells_used: int = 0
    cells: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    preemptions: int = 0
    stored_bytes: int = 0  # keys and values of prefixes, outside the cache
    stored_disk_bytes: int = 0


Command = Generate | Cancel | Tokenize | Detokenize | Measure | Stop | Embed | Rerank
Event = (
    Loading
    | Ready
    | Accepted
    | Progress
    | Started
    | Step
    | Ended
    | Failed
    | Tokens
    | Text
    | Embeddings
    | Scores
    | WorkerStats
)


# Retrieval


class Passage(Struct, frozen=True, kw_only=True):
    """One scored document of a rerank: its place in the request, the raw logit and a 0-1 score."""

    index: int
    logit: float
    score: float
