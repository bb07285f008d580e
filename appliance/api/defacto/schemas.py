"""The request bodies of the de facto paths: names, types and bounds, and what becomes of the rest."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from appliance.api.rules import Rule, is_empty, never
from appliance.api.schemas import (
    MAX_INPUTS,
    MAX_MESSAGES,
    ChatMessage,
    DocumentText,
    Label,
    ModelName,
    TemplateOptions,
    TokenIds,
)
from appliance.api.tool_schemas import Tools

Texts = Annotated[list[str], Meta(min_length=1, max_length=MAX_INPUTS)]
Documents = Annotated[list[str | DocumentText], Meta(min_length=1, max_length=MAX_INPUTS)]
Query = Annotated[str, Meta(min_length=1)]
TopN = Annotated[int, Meta(ge=1, le=MAX_INPUTS)]


class CohereRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    model: ModelName
    query: Query
    documents: Documents
    top_n: TopN | None = None
    max_tokens_per_doc: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    priority: Annotated[int, Meta(ge=0, le=999)] | None = None
    return_documents: bool | None = None


class AnyRerankRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """TEI's form has `texts`, Jina's `model` and `documents`; each has its own answer."""

    query: Query
    model: ModelName | None = None
    documents: Documents | None = None
    top_n: TopN | None = None
    return_documents: bool | None = None
    user: Label | None = None
    texts: Texts | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    truncate: bool | None = None
    truncation_direction: Label | None = None


class ScoreRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """One text against each of the others, or as many pairs as there are texts."""

    model: ModelName
    text_1: Query | Texts
    text_2: Query | Texts
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    user: Label | None = None


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """`content` as llama-server has it, `prompt` or `messages` as vLLM has them.

    Without `model`: the first chat model.
    """

    model: ModelName | None = None
    content: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    tools: Tools | None = None
    chat_template_kwargs: TemplateOptions | None = None
    with_pieces: bool | None = None
    return_token_strs: bool | None = None
    add_special: Any = None
    parse_special: Any = None
    add_special_tokens: Any = None
    add_generation_prompt: Any = None
    continue_final_message: Any = None


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    tokens: TokenIds
    model: ModelName | None = None


class TemplateRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    model: ModelName | None = None
    tools: Tools | None = None
    chat_template_kwargs: TemplateOptions | None = None


COHERE_RULES = (
    Rule(
        "max_tokens_per_doc", never, "a document longer than the model reads is warned about", refuses=False
    ),
    Rule("priority", lambda v: v == 0, "there is one priority", refuses=False),
)
RERANK_RULES = (
    Rule("user", never, "requests are not tracked by user", refuses=False),
    Rule("truncate", is_empty, "a text longer than the model reads is warned about", refuses=False),
    Rule("truncation_direction", never, "the end of a long text is what is not read", refuses=False),
)
SCORE_RULES = (
    Rule(
        "truncate_prompt_tokens", never, "a text longer than the model reads is warned about", refuses=False
    ),
    Rule("user", never, "requests are not tracked by user", refuses=False),
)
TEMPLATE_WHOLE = "the prompt is the one that an answer would begin after"
TOKENIZE_RULES = (
    *(
        Rule(name, never, "the tokens are those that the model would be given", refuses=False)
        for name in ("add_special", "parse_special", "add_special_tokens")
    ),
    Rule("add_generation_prompt", lambda v: v is True, TEMPLATE_WHOLE),
    Rule("continue_final_message", lambda v: v is False, TEMPLATE_WHOLE),
)
