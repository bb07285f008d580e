"""From a request's prompt to tokens the engine can compute: template, tokenizer, context check.

Runs on a thread of its own, so that a slow template or a long prompt stops nobody's stream. Raises typed
errors; it admits nothing itself.
"""

from __future__ import annotations

import secrets

from appliance.errors import ContextLengthExceeded, InvalidRequest, InvalidValue
from appliance.llm.backend import Vocabulary
from appliance.llm.engine import Admit
from appliance.llm.template import GENERIC_TEMPLATE, SEVER, ChatTemplate, sever
from appliance.records import ChatPrompt, Generate, Message, Prompt, TextPrompt, TokenPrompt

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
        # A single character cannot be severed; no model spells a control token so.
        self._special_texts = tuple(text for text in vocabulary.special_texts() if len(text) > 1)
        source = chat_template or vocabulary.chat_template
        self._warnings = () if source else (GENERIC_WARNING,)
        self._template: ChatTemplate | None = None
        self._template_error: InvalidRequest | None = None
        try:
            self._template = ChatTemplate(
                source or GENERIC_TEMPLATE,
                bos_text=vocabulary.bos_text,
                eos_text=vocabulary.eos_text,
                seconds=seconds_per_template,
            )
        except InvalidRequest as error:
            self._template_error = error  # completions still work without a template

    def admit(self, request: Generate, *, arrived: float) -> Admit:
        """Raises ContextLengthExceeded rather than cut a prompt, InvalidValue for tokens out of range."""
        self._check_bias(request)
        prompt = self.tokenize(request.prompt)
        if not prompt:
            raise InvalidValue("the prompt is empty: it has no tokens", param="prompt")
        if len(prompt) >= self._context_length:
            raise ContextLengthExceeded(
                f"the prompt has {len(prompt)} tokens; this model's context holds "
                f"{self._context_length}, of which at least one is for the answer",
                param="messages" if isinstance(request.prompt, ChatPrompt) else "prompt",
            )
        wanted = request.sampling.max_tokens
        end = self._context_length if wanted is None else len(prompt) + wanted
        seed = request.sampling.seed
        warnings = list(self._warnings if isinstance(request.prompt, ChatPrompt) else ())
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
            seed=secrets.randbits(32) if seed is None else seed & 0xFFFFFFFF,
            limit=min(end, self._context_length),
            arrived=arrived,
            deadline=None if request.deadline is None else arrived + request.deadline,
            warnings=tuple(warnings),
        )

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
        if self._template is None:
            raise self._template_error or InvalidRequest("this model has no chat template")
        special = self._special_texts
        messages = [
            Message(role=m.role, content=sever(m.content, special), name=sever(m.name, special))
            for m in prompt.messages
        ]
        return self._template.render(messages, options=sever(prompt.template_options, special))

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
            case ChatPrompt(messages=messages):
                size, param = sum(len(message.content) for message in messages), "messages"
            case TextPrompt(text=text):
                size, param = len(text), "prompt"
            case TokenPrompt():
                return
        if size > self._context_length * self._vocabulary.longest_token:
            raise ContextLengthExceeded(
                f"the prompt has {size} characters; this model's context holds "
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
