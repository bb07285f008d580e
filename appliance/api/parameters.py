"""What this server does with each parameter that it knows but does not simply serve: refuse it with the
reason, or ignore it with a warning. Nothing that a client asks for is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.api.opening import TIERS
from appliance.api.rules import Rule, apply, is_empty, never
from appliance.api.schemas import ChatMessage, ChatRequest, CompletionRequest, ContentPart, SamplingFields
from appliance.errors import UnsupportedParameter

CHAT_RULES = (
    Rule("modalities", lambda v: v == ["text"], "the local models read and write text only"),
    Rule("audio", is_empty, "the local models read and write text only"),
    Rule("moderation", is_empty, "there is no moderation model"),
    Rule("web_search_options", is_empty, "this server does not search the web"),
    Rule("prediction", is_empty, "predicted outputs do not speed up the local models", refuses=False),
    Rule("verbosity", never, "the local models have no verbosity setting", refuses=False),
    Rule("prompt_cache_key", never, "prompts are cached by their tokens, without keys", refuses=False),
    Rule("prompt_cache_options", is_empty, "prompts are always cached", refuses=False),
    Rule("prompt_cache_retention", never, "prompts stay cached while there is room", refuses=False),
    Rule("service_tier", lambda v: v in TIERS, "the tiers are default, flex and priority", refuses=False),
    Rule("safety_identifier", never, "requests are not tracked by user", refuses=False),
    Rule("user", never, "requests are not tracked by user", refuses=False),
)
COMPLETION_RULES = (
    Rule("echo", lambda v: v is False, "the prompt is not repeated"),
    Rule("best_of", lambda v: v == 1, "answers are not chosen from; ask for `n` of them"),
    Rule("suffix", is_empty, "filling in the middle is not served"),
    Rule("user", never, "requests are not tracked by user", refuses=False),
)
STREAM_RULES = (Rule("include_obfuscation", is_empty, "chunks are not padded", refuses=False),)
PART_RULES = tuple(
    Rule(name, is_empty, "the local models read text only") for name in ("input_audio", "file", "refusal")
)
MESSAGE_RULES = (
    Rule("audio", is_empty, "the local models read and write text only"),
    Rule("refusal", is_empty, "a refusal has no place in a prompt; put its text into `content`"),
    Rule("annotations", is_empty, "annotations are not part of the prompt", refuses=False),
)


SEED_WARNING = (
    "seed fixes the draws, but company and cached prompts change the model's rounding, so another time the "
    "text may differ; with `deterministic: true` it will not"
)


def check_chat(request: ChatRequest) -> list[str]:
    """The warnings for what is ignored. Raises UnsupportedParameter for what is refused."""
    warnings = [*apply(request, CHAT_RULES, ""), *_check_sampling(request)]
    if request.metadata and not request.store:
        warnings.append("metadata is ignored: it belongs to stored completions (`store: true`)")
    for index, message in enumerate(request.messages):
        warnings += _check_message(message, f"messages[{index}]")
    return warnings


def check_completion(request: CompletionRequest) -> list[str]:
    """As `check_chat`."""
    return [*apply(request, COMPLETION_RULES, ""), *_check_sampling(request)]


def _check_sampling(request: SamplingFields) -> Iterator[str]:
    if request.stream_options is not None and not request.stream:
        raise UnsupportedParameter("stream_options needs `stream: true`", param="stream_options")
    if request.stream_options is not None:
        yield from apply(request.stream_options, STREAM_RULES, "stream_options.")
    if request.seed is not None and not request.deterministic:
        yield SEED_WARNING


def _check_message(message: ChatMessage, path: str) -> Iterator[str]:
    yield from apply(message, MESSAGE_RULES, f"{path}.")
    if message.content is None and not (message.tool_calls or message.function_call):
        raise UnsupportedParameter("a message needs content", param=f"{path}.content")
    if message.content is None or isinstance(message.content, str):
        return
    for index, part in enumerate(message.content):
        where = f"{path}.content[{index}]"
        _check_part(part, message.role, where)
        yield from apply(part, PART_RULES, f"{where}.")


def _check_part(part: ContentPart, role: str, where: str) -> None:
    if part.type not in ("text", "image_url"):
        raise UnsupportedParameter(
            f"content of type {part.type!r} is not served: only text and image_url are",
            param=f"{where}.type",
        )
    field, other = ("text", "image_url") if part.type == "text" else ("image_url", "text")
    if getattr(part, field) is None:
        raise UnsupportedParameter(f"a part of type {part.type} needs `{field}`", param=f"{where}.{field}")
    if getattr(part, other) is not None:
        raise UnsupportedParameter(f"a part of type {part.type} has no `{other}`", param=f"{where}.{other}")
    if part.type == "image_url" and role != "user":
        raise UnsupportedParameter(
            f"only a message of the role user has images, not {role}", param=f"{where}.type"
        )
