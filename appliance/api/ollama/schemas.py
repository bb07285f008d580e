"""The request bodies of /api: names, types and bounds, and what becomes of what is not served."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.rules import Rule, is_empty, never
from appliance.api.schemas import (
    MAX_INPUTS,
    MAX_MESSAGES,
    MAX_TOKENS,
    KeepAlive,
    ModelName,
    Penalty,
    Probability,
    Refused,
    RepeatPenalty,
    Seed,
    StopWords,
    Temperature,
)
from appliance.api.tool_schemas import MAX_TOOLS, FunctionDefinition, ToolName

Think = bool | Literal["none", "minimal", "low", "medium", "high", "max"]


class Options(Struct, forbid_unknown_fields=True, kw_only=True):
    """What Ollama lets a request set; those of loading are this server's own settings."""

    num_predict: Annotated[int, Meta(ge=-2, le=MAX_TOKENS)] | None = None
    temperature: Temperature | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    top_p: Probability | None = None
    min_p: Probability | None = None
    seed: Seed | None = None
    stop: StopWords | None = None
    repeat_penalty: RepeatPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    num_ctx: Any = None
    num_keep: Any = None
    num_batch: Any = None
    num_gpu: Any = None
    main_gpu: Any = None
    num_thread: Any = None
    numa: Any = None
    low_vram: Any = None
    f16_kv: Any = None
    logits_all: Any = None
    vocab_only: Any = None
    use_mmap: Any = None
    use_mlock: Any = None
    embedding_only: Any = None
    tfs_z: Any = None
    typical_p: Any = None
    repeat_last_n: Any = None
    mirostat: Any = None
    mirostat_tau: Any = None
    mirostat_eta: Any = None
    penalize_newline: Any = None


class CalledFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """`arguments` are values, where OpenAI has their JSON text."""

    name: ToolName
    arguments: dict[str, Any] = {}
    index: Any = None
    description: Any = None


class CalledTool(Struct, forbid_unknown_fields=True, kw_only=True):
    function: CalledFunction
    id: Any = None
    type: Any = None


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Refused = None
    tool_calls: Annotated[list[CalledTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_name: ToolName | None = None
    tool_call_id: Any = None


class ToolEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function"] = "function"
    function: FunctionDefinition


class GeneratingFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What chat and generate share. `stream` is on unless it is turned off."""

    model: ModelName
    stream: bool | None = None
    options: Options | None = None
    format: str | dict[str, Any] | None = None
    keep_alive: KeepAlive | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class ChatRequest(GeneratingFields, forbid_unknown_fields=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(max_length=MAX_MESSAGES)] = []
    tools: Annotated[list[ToolEntry], Meta(max_length=MAX_TOOLS)] | None = None


class GenerateRequest(GeneratingFields, forbid_unknown_fields=True, kw_only=True):
    prompt: str = ""
    system: str | None = None
    raw: bool | None = None
    suffix: Refused = None
    template: Refused = None
    context: Refused = None
    images: Refused = None
    width: Refused = None
    height: Refused = None
    steps: Refused = None


class EmbedRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    model: ModelName
    input: str | Annotated[list[str], Meta(max_length=MAX_INPUTS)]
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    truncate: bool | None = None
    options: Any = None
    keep_alive: KeepAlive | None = None


class EmbeddingsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The older of the two: one text, one vector."""

    model: ModelName
    prompt: str
    options: Any = None
    keep_alive: KeepAlive | None = None


class ShowRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    model: ModelName | None = None
    name: ModelName | None = None
    verbose: bool | None = None


MACHINE_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram")
FORMAT_OPTIONS = ("f16_kv", "logits_all", "vocab_only", "use_mmap", "use_mlock", "embedding_only")
LOADING = "models are loaded by this server's own settings (hearth config)"
SAMPLING = "this server's samplers have no such setting"
OPTION_RULES = (
    *(Rule(name, never, LOADING, refuses=False) for name in (*MACHINE_OPTIONS, *FORMAT_OPTIONS)),
    Rule("num_keep", never, "a prompt is never cut", refuses=False),
    Rule("repeat_last_n", never, "penalties count the whole answer", refuses=False),
    *(
        Rule(name, never, SAMPLING, refuses=False)
        for name in ("tfs_z", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta", "penalize_newline")
    ),
)
GENERATE_RULES = (
    Rule("suffix", is_empty, "filling in the middle is not served"),
    Rule("template", is_empty, "models are asked with their own chat templates only"),
    Rule("context", is_empty, "a conversation is sent as messages to /api/chat"),
    Rule("images", is_empty, "the local models read and write text only"),
    *(Rule(name, never, "the local models make no pictures") for name in ("width", "height", "steps")),
)
MESSAGE_RULES = (Rule("images", is_empty, "the local models read and write text only"),)
EMBED_RULES = (
    Rule("truncate", lambda v: v is False, "a text that is too long is refused, not cut", refuses=False),
    Rule("options", is_empty, "embedding models have no options", refuses=False),
    Rule("keep_alive", never, "embedding models stay in memory", refuses=False),
)
SHOW_RULES = (Rule("verbose", is_empty, "a model's vocabulary is not listed", refuses=False),)
EMBEDDINGS_RULES = EMBED_RULES[1:]
