"""From a request's prompt to tokens the engine can compute: template, tokenizer, context check.

Runs on a thread of its own, so that a slow template or a long prompt stops nobody's stream. Raises typed
errors; it admits nothing itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from msgspec.structs import replace

from appliance.errors import ContextLengthExceeded, InvalidRequest, InvalidValue
from appliance.llm.backend import Vocabulary
from appliance.llm.constraint import Constrained
from appliance.llm.conversation import Conversation
from appliance.llm.dialects.stream import AnswerStream
from appliance.llm.grammar import GrammarCompiler, Matcher
from appliance.llm.request import Admit
from appliance.llm.template import GENERIC_TEMPLATE, SEVER, ChatTemplate
from appliance.records import (
    ChatPrompt,
    Generate,
    Prompt,
    SamplingParams,
    TextPrompt,
    TokenPrompt,
    ToolChoice,
)

GENERIC_WARNING = (
    "this model carries no chat template; a generic ChatML prompt was used, which it may not understand"
)


class Preparer:
    """`context_length`: the most tokens, prompt and answer together, of one request."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        context_length: int,
        chat_template: str | None = None,
        seconds_per_template: float = 1.0,
    ) -> None:
        self._vocabulary = vocabulary
        self._context_length = context_length
        source = chat_template or vocabulary.chat_template
        self._warnings = () if source else (GENERIC_WARNING,)
        self._compiler: GrammarCompiler | None = None
        self._conversation: Conversation | None = None
        self._template_error: InvalidRequest | None = None
        try:
            template = ChatTemplate(
                source or GENERIC_TEMPLATE,
                bos_text=vocabulary.bos_text,
                eos_text=vocabulary.eos_text,
                special_texts=vocabulary.special_texts(),
                seconds=seconds_per_template,
            )
            self._conversation = Conversation(template, source or GENERIC_TEMPLATE)
        except InvalidRequest as error:
            self._template_error = error  # completions still work without a template

    def admit(self, request: Generate, *, arrived: float) -> Admit:
        """Raises ContextLengthExceeded rather than cut a prompt, InvalidValue for tokens out of range."""
        self._check_bias(request)
        chat = request.prompt if isinstance(request.prompt, ChatPrompt) else None
        self._check_length(request.prompt)
        is_constrained = request.constraint is not None
        rendered = "" if chat is None else self._chats.render(chat, is_constrained=is_constrained)
        prompt = self.tokenize(request.prompt) if chat is None else self._tokenize_severed(rendered)
        if not prompt:
            raise InvalidValue("the prompt is empty: it has no tokens", param="prompt")
        if len(prompt) >= self._context_length:
            raise ContextLengthExceeded(
                f"the prompt has {len(prompt)} tokens; this model's maximum context length is "
                f"{self._context_length}, of which at least one is for the answer",
                param="prompt" if chat is None else "messages",
            )
        wanted = request.sampling.max_tokens
        end = self._context_length if wanted is None else len(prompt) + wanted
        warnings = (
            []
            if chat is None
            else [*self._warnings, *self._chats.warnings(chat, is_constrained=is_constrained)]
        )
        if end > self._context_length:
            warnings.append(
                f"max_tokens is {wanted}, but the prompt of {len(prompt)} tokens leaves room for "
                f"{self._context_length - len(prompt)} in this model's context of {self._context_length}"
            )
        return Admit(
            id=request.id,
            prompt=prompt,
            sampling=request.sampling,
            choices=request.choices,
            seed=self._seed(request.sampling),
            limit=min(end, self._context_length),
            arrived=arrived,
            deadline=None if request.deadline is None else arrived + request.deadline,
            warnings=tuple(warnings),
            constraint=self._constrain(request, min(end, self._context_length) - len(prompt)),
            listen=None if chat is None else self._listener(chat, rendered, request.sampling.stop),
            scheduling_class=request.scheduling_class,
            owner=request.owner,
            adapter=request.adapter,
            namespace=f"{request.namespace}\n{request.adapter}" if request.adapter else request.namespace,
        )

    @staticmethod
    def _seed(params: SamplingParams) -> int:
        """Without a word from the client: any, but always the same one where answers must be."""
        if params.seed is not None:
            return params.seed & 0xFFFFFFFF
        return 0 if params.deterministic else secrets.randbits(32)

    def _constrain(self, request: Generate, budget: int) -> Constrained | None:
        """A forced tool call goes before a constraint on the text.

        Raises UnsupportedParameter or InvalidValue for what cannot be held to within `budget` tokens.
        """
        if isinstance(request.prompt, ChatPrompt) and request.prompt.tool_choice.mode == "required":
            return Constrained(self._compile_calls(request.prompt), budget)
        if request.constraint is None:
            return None
        return Constrained(self._grammars.compile(request.constraint), budget)

    def _compile_calls(self, prompt: ChatPrompt) -> Matcher:
        """Raises InvalidValue or UnsupportedParameter naming the tool whose schema is at fault."""
        dialect = self._chats.dialect
        try:
            return self._grammars.compile(dialect.constraint(prompt, self._token_id))
        except InvalidRequest as error:
            for index, tool in enumerate(prompt.tools):
                alone = replace(prompt, tools=(tool,), tool_choice=ToolChoice(mode="required"))
                try:
                    self._grammars.compile(dialect.constraint(alone, self._token_id))
                except InvalidRequest as fault:
                    raise type(fault)(
                        f"a call of {tool.name!r} cannot be forced: {fault.message}",
                        param=f"tools[{index}].function.parameters",
                    ) from fault
            raise type(error)(f"a call cannot be forced: {error.message}", param="tools") from error

    @property
    def _grammars(self) -> GrammarCompiler:
        if self._compiler is None:
            self._compiler = GrammarCompiler(self._vocabulary)
        return self._compiler

    @property
    def _chats(self) -> Conversation:
        if self._conversation is None:
            raise self._template_error or InvalidRequest("this model has no chat template")
        return self._conversation

    def _listener(
        self, prompt: ChatPrompt, rendered: str, stop: tuple[str, ...]
    ) -> Callable[[], AnswerStream]:
        """What reads an answer to `prompt`, made anew for each choice."""
        dialect = self._chats.dialect
        ids = (self._token_id(text) for text in dialect.visible_specials)
        visible = frozenset(id for id in ids if id is not None)
        return lambda: AnswerStream(stop, dialect.parser(prompt, rendered), visible)

    def _token_id(self, text: str) -> int | None:
        """The id of the one token that `text` is; None when it takes several."""
        tokens = self._vocabulary.tokenize(text, add_bos=False, parse_special=True)
        is_one = len(tokens) == 1 and self._vocabulary.literal(tokens[0]) == text.encode()
        return tokens[0] if is_one else None

    def tokenize(self, prompt: Prompt) -> list[int]:
        self._check_length(prompt)
        match prompt:
            case ChatPrompt():
                return self._tokenize_severed(self.render(prompt))
            case TextPrompt(text=text):
                return self._vocabulary.tokenize(text, add_bos=True, parse_special=True)
            case TokenPrompt(tokens=tokens):
                for index, token in enumerate(tokens):
                    if not 0 <= token < self._vocabulary.size:
                        raise InvalidValue(
                            f"token {token} is not in this model's vocabulary of {self._vocabulary.size}",
                            param=f"prompt[{index}]",
                        )
                return list(tokens)

    def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The tokens as text, control tokens included. Raises InvalidValue for tokens out of range."""
        known = self.tokenize(TokenPrompt(tokens=tokens))
        return b"".join(self._vocabulary.literal(token) for token in known).decode(errors="replace")

    def render(self, prompt: ChatPrompt) -> str:
        """The conversation as text, with control-token texts in the client's own words severed."""
        return self._chats.render(prompt)

    def _tokenize_severed(self, text: str) -> list[int]:
        """The template's control tokens as such; the client's look-alikes as plain text, part by part."""
        bos = self._vocabulary.bos_text
        add_bos = not (bos and text.startswith(bos))
        tokens: list[int] = []
        for part in text.split(SEVER):
            tokens += self._vocabulary.tokenize(part, add_bos=add_bos and not tokens, parse_special=True)
        return tokens

    def _check_length(self, prompt: Prompt) -> None:
        """Refuse at once what cannot fit, before it costs a rendering and a tokenisation."""
        match prompt:
            case ChatPrompt():
                size, param = _chat_size(prompt), "messages"
            case TextPrompt(text=text):
                size, param = len(text), "prompt"
            case TokenPrompt():
                return
        if size > self._context_length * self._vocabulary.longest_token:
            raise ContextLengthExceeded(
                f"the prompt has {size} characters; this model's maximum context length is "
                f"{self._context_length} tokens of at most {self._vocabulary.longest_token} bytes",
                param=param,
            )

    def _check_bias(self, request: Generate) -> None:
        for token in request.sampling.logit_bias:
            if not 0 <= token < self._vocabulary.size:
                raise InvalidValue(
                    f"token {token} is not in this model's vocabulary of {self._vocabulary.size}",
                    param="logit_bias",
                )


def _chat_size(prompt: ChatPrompt) -> int:
    """Characters of a conversation that will surely be in its prompt."""
    size = sum(len(message.content) for message in prompt.messages)
    size += sum(len(call.arguments) for message in prompt.messages for call in message.tool_calls)
    if prompt.tool_choice.mode != "none":
        size += sum(len(tool.description) + len(json.dumps(tool.parameters)) for tool in prompt.tools)
    return size
