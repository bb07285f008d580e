"""The settings of routing: platforms, their models, policies, rules, budgets. Types, bounds and defaults
only.

The section `routing` of `schema`. A key is never a setting: a platform names the environment
variable or the file that holds it. Prices are per million tokens in the operator's one currency; quality is
the operator's own rank, 0 to 100.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

PolicyName = Literal[
    "local-only", "local-first", "online-first", "cheapest", "fastest", "best", "split", "custom"
]
Task = Literal["chat", "code", "summarise", "embed", "rerank"]
Role = Literal["chat", "embed", "rerank"]
Capability = Literal["tools", "schema", "grammar", "vision", "logprobs", "completions", "tokens", "bias"]
Continuation = Literal["auto", "none", "prefix", "echo"]
PlatformType = Literal["openai", "one-api", "xinference", "ollama", "vllm", "llama-server", "hearth"]

PlatformName = Annotated[
    str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z", description="the platform's name, unique")
]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Pattern = Annotated[str, Meta(max_length=256)]
Url = Annotated[str, Meta(pattern=r"\Ahttps?://[^\s/?#@]+(/[^\s?#]*)?\Z", max_length=2048)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Price = Annotated[float, Meta(ge=0, le=1_000_000)]


class Instance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server that answers for a model."""

    api_base_url: Annotated[Url, Meta(description="where this instance's API begins")]
    weight: Annotated[float, Meta(gt=0, le=1_000_000, description="its share of the work")] = 1.0


class Model(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model of a platform, and what the operator knows about it."""

    name: Annotated[ModelName, Meta(description="the platform's own name for the model")]
    public_name: Annotated[str, Meta(max_length=256, description="the name for our clients; empty: name")] = (
        ""
    )
    role: Annotated[Role, Meta(description="what the model is for")] = "chat"
    context_length: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="most tokens of prompt and answer; 0: not known")
    ] = 0
    capabilities: Annotated[
        tuple[Capability, ...], Meta(max_length=16, description="what it can do beyond plain text")
    ] = ()
    price_in: Annotated[Price, Meta(description="price of a million prompt tokens")] = 0.0
    price_out: Annotated[Price, Meta(description="price of a million answer tokens")] = 0.0
    quality: Annotated[int, Meta(ge=0, le=100, description="how good its answers are, in your ranking")] = 50
    concurrency: Annotated[int, Meta(ge=1, le=10_000, description="requests at once, per instance")] = 16
    queue: Annotated[int, Meta(ge=0, le=100_000, description="requests that may wait for an instance")] = 64
    queue_seconds: Annotated[Seconds, Meta(description="longest wait for an instance")] = 10.0
    instances: Annotated[
        tuple[Instance, ...], Meta(max_length=64, description="its servers; empty: the platform's address")
    ] = ()
    continuation: Annotated[
        Continuation,
        Meta(
            description="how it continues a partial answer: `prefix` sends only what is new, `echo` repeats "
            "the partial text first, `none` cannot; `auto`: as the platform's type does"
        ),
    ] = "auto"


class Platform(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An OpenAI-compatible service."""

    name: PlatformName
    api_base_url: Annotated[Url, Meta(description="where its API begins, with /v1 where it has that")]
    type: Annotated[PlatformType, Meta(description="which dialect it speaks")] = "openai"
    key_env: Annotated[
        str, Meta(pattern=r"\A([A-Za-z_][A-Za-z0-9_]*)?\Z", description="variable that holds its key")
    ] = ""
    key_file: Annotated[str, Meta(max_length=4096, description="file that holds its key")] = ""
    ca_file: Annotated[str, Meta(max_length=4096, description="certificates to trust; empty: system's")] = ""
    proxy: Annotated[
        str, Meta(pattern=r"\A(http://[^\s/?#@]+/?)?\Z", description="HTTP proxy to reach it through")
    ] = ""
    allow_plain_key: Annotated[
        bool, Meta(description="send the key over plain http to a host that is not this machine")
    ] = False
    discover: Annotated[bool, Meta(description="take models from its /models as well")] = False
    discover_only: Annotated[
        tuple[Pattern, ...], Meta(max_length=64, description="patterns that discovered names must match")
    ] = ("*",)
    discover_limit: Annotated[int, Meta(ge=1, le=10_000, description="most discovered models")] = 200
    stream_usage: Annotated[bool, Meta(description="ask for token counts at the end of streams")] = True
    connect_seconds: Annotated[Seconds, Meta(description="longest wait for a connection")] = 5.0
    first_byte_seconds: Annotated[Seconds, Meta(description="longest wait for an answer's first part")] = 30.0
    between_bytes_seconds: Annotated[Seconds, Meta(description="longest silence within an answer")] = 15.0
    health_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="seconds between health checks; 0: none")
    ] = 30.0
    models: Annotated[tuple[Model, ...], Meta(max_length=1000, description="its models")] = ()


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first rule all of whose patterns match decides. An empty pattern matches everything."""

    task: Annotated[Literal["", "chat", "code", "summarise", "embed", "rerank"], Meta(description="task")] = (
        ""
    )
    key: Annotated[Pattern, Meta(description="pattern of the API key's name")] = ""
    model: Annotated[Pattern, Meta(description="pattern of the model's name as asked for")] = ""
    base: Annotated[Pattern, Meta(description="pattern of a knowledge base's name")] = ""
    policy: Annotated[PolicyName, Meta(description="the policy for these requests")]
    models: Annotated[
        tuple[Pattern, ...], Meta(max_length=64, description="models to choose from; empty: as asked for")
    ] = ()


class Breaker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When an instance is left alone, and for how long."""

    failures: Annotated[int, Meta(ge=1, le=1000, description="failures in a row that open it")] = 5
    error_rate: Annotated[float, Meta(gt=0, le=1, description="share of failures that opens it")] = 0.5
    window_seconds: Annotated[Seconds, Meta(description="time over which the share is taken")] = 60.0
    window_requests: Annotated[int, Meta(ge=1, le=100_000, description="fewest requests for the share")] = 20
    open_seconds: Annotated[Seconds, Meta(description="first pause; doubles while it keeps failing")] = 5.0
    open_seconds_most: Annotated[Seconds, Meta(description="longest pause")] = 120.0
    retry_after_most: Annotated[Seconds, Meta(description="longest Retry-After that is obeyed")] = 60.0


class Budget(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A daily limit (days of UTC) for the online use of a key, of a platform, or of everything (`*`)."""

    scope: Annotated[Literal["key", "platform", "all"], Meta(description="what is limited")]
    name: Annotated[Pattern, Meta(description="pattern of the key's or platform's name")] = "*"
    tokens: Annotated[int, Meta(ge=0, le=10**15, description="tokens a day; 0: no limit")] = 0
    money: Annotated[float, Meta(ge=0, le=10**9, description="money a day; 0: no limit")] = 0.0


class Routing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which model answers."""

    mode: Annotated[
        Literal["offline", "hybrid"], Meta(description="offline: nothing leaves this machine, ever")
    ] = "offline"
    policy: Annotated[PolicyName, Meta(description="the policy where no rule decides")] = "online-first"
    custom: Annotated[
        str, Meta(max_length=4096, description="policy `custom`: a Python file, or `module:function`")
    ] = ""
    quality_floor: Annotated[int, Meta(ge=0, le=100, description="policy `cheapest`: least quality")] = 0
    split: Annotated[
        dict[str, Weight], Meta(max_length=64, description="policy `split`: models and their weights")
    ] = {}
    split_by: Annotated[
        Literal["conversation", "key"], Meta(description="policy `split`: who keeps the same model")
    ] = "conversation"
    aliases: Annotated[
        dict[str, tuple[Pattern, ...]],
        Meta(max_length=1000, description="further names, patterns too, and the models that they stand for"),
    ] = {}
    rules: Annotated[
        tuple[Rule, ...],
        Meta(max_length=1000, description="policies for certain requests; the first match decides"),
    ] = ()
    local_only_bases: Annotated[
        tuple[Pattern, ...],
        Meta(max_length=1000, description="knowledge bases whose requests never leave, whatever else says"),
    ] = ()
    fallback: Annotated[
        bool, Meta(description="when a model asked for by its name cannot answer, a local one may")
    ] = True
    local_quality: Annotated[
        int, Meta(ge=0, le=100, description="quality of this machine's own models, in your ranking")
    ] = 30
    header: Annotated[bool, Meta(description="obey the request header x-hearth-policy")] = True
    continue_cut: Annotated[
        bool, Meta(description="a stream that is cut goes on with the next model; false: it ends in an error")
    ] = True
    calls: Annotated[int, Meta(ge=1, le=32, description="most upstream calls for one request")] = 4
    retry_jitter: Annotated[
        float, Meta(ge=0, le=10, description="longest random pause before the one retry, in seconds")
    ] = 0.05
    hedge_seconds: Annotated[
        float, Meta(ge=0, le=600, description="ask a second model after this silence; 0: never")
    ] = 0.0
    breaker: Breaker = field(default_factory=Breaker)
    budgets: Annotated[
        tuple[Budget, ...],
        Meta(max_length=1000, description="daily limits of online use; per scope the first match counts"),
    ] = ()
    platforms: Annotated[tuple[Platform, ...], Meta(max_length=64, description="the online services")] = ()
