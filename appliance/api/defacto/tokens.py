"""POST /tokenize, /detokenize and /apply-template: a text as the model reads it."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import noted
from appliance.api.context import read_request
from appliance.api.defacto.schemas import (
    TOKENIZE_RULES,
    DetokenizeRequest,
    TemplateRequest,
    TokenizeRequest,
)
from appliance.api.messages import messages_of
from appliance.api.rules import apply
from appliance.api.schemas import ChatRequest
from appliance.api.sse import unless_client_leaves
from appliance.api.tools import tools_of
from appliance.api.visible import models_of
from appliance.errors import InvalidValue, MissingParameter
from appliance.records import ChatPrompt, Prompt, TextPrompt


class TokenPiece(Struct, kw_only=True):
    id: int
    piece: str


class Tokenized(Struct, kw_only=True, omit_defaults=True):
    """`tokens` are ids, or ids with their texts where llama-server's `with_pieces` asks for them."""

    tokens: list[int | TokenPiece]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class Detokenized(Struct, kw_only=True):
    """The text twice: as llama-server calls it, and as vLLM does."""

    content: str
    prompt: str


class Templated(Struct, kw_only=True):
    prompt: str


async def tokenize(http: Request) -> Response:
    request = await read_request(http, TokenizeRequest)
    warnings = list(apply(request, TOKENIZE_RULES))
    model = request.model or default_model(http)
    generator = models_of(http).generator(model)
    tokens = await unless_client_leaves(http, generator.tokenize(_prompt(request, model)))
    body = Tokenized(
        tokens=list(tokens),
        count=len(tokens),
        max_model_len=models_of(http).served(model).context_length,
    )
    if request.with_pieces or request.return_token_strs:
        pieces = [await generator.detokenize((token,)) for token in tokens[:MOST_PIECES]]
        if len(pieces) < len(tokens):
            raise InvalidValue(f"pieces are told of at most {MOST_PIECES} tokens", param="with_pieces")
        if request.with_pieces:
            body.tokens = [TokenPiece(id=id, piece=piece) for id, piece in zip(tokens, pieces, strict=True)]
        else:
            body.token_strs = pieces
    return noted(body, warnings)


MOST_PIECES = 4096


def _prompt(request: TokenizeRequest, model: str) -> Prompt:
    texts = [text for text in (request.content, request.prompt) if text is not None]
    if len(texts) + (request.messages is not None) != 1:
        raise MissingParameter("give one of content, prompt and messages", param="content")
    if request.messages is None:
        return TextPrompt(text=texts[0])
    return _chat(ChatRequest(model=model, messages=request.messages, tools=request.tools), request)


def _chat(chat: ChatRequest, request: TokenizeRequest | TemplateRequest) -> ChatPrompt:
    return ChatPrompt(
        messages=messages_of(chat.messages),
        tools=tools_of(chat),
        template_options=request.chat_template_kwargs or {},
    )


async def detokenize(http: Request) -> Response:
    request = await read_request(http, DetokenizeRequest)
    generator = models_of(http).generator(request.model or default_model(http))
    text = await unless_client_leaves(http, generator.detokenize(tuple(request.tokens)))
    return noted(Detokenized(content=text, prompt=text), ())


async def apply_template(http: Request) -> Response:
    """The prompt that a conversation becomes: its tokens, as text again."""
    request = await read_request(http, TemplateRequest)
    model = request.model or default_model(http)
    generator = models_of(http).generator(model)
    chat = ChatRequest(model=model, messages=request.messages, tools=request.tools)
    tokens = await unless_client_leaves(http, generator.tokenize(_chat(chat, request)))
    return noted(Templated(prompt=await generator.detokenize(tokens)), ())


def default_model(http: Request) -> str:
    """The first chat model: llama-server serves one and asks for none."""
    return next(served.manifest.name for served in models_of(http).all() if served.manifest.role == "chat")
