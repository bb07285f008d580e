"""Chat templates: a stranger's program out of a model file, rendered where it can do no harm.

A template comes with the weights and is not to be trusted; `sandbox` is where it runs. This module turns
conversations to text and a template's mishaps to typed errors; it knows no tokens.

Source of the template dialect: the Hugging Face chat-template conventions (`raise_exception`,
`strftime_now`, `tojson` without HTML escapes, `{% generation %}` ignored).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import meta

from appliance.errors import HearthError, InvalidRequest, TemplateRefusal, UnsupportedParameter
from appliance.llm.meter import LimitReached, Meter
from appliance.llm.sandbox import Sandbox
from appliance.records import Message

Turn = Mapping[str, Any]

MAX_TEMPLATE_CHARS = 64 * 1024  # jinja's compiler takes seconds for more
MAX_OUTPUT_CHARS = 8 * 1024 * 1024

GENERIC_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OWN_VARIABLES = frozenset(["messages", "bos_token", "eos_token", "add_generation_prompt", "tools"])


class ChatTemplate:
    """A compiled chat template. `special_texts`, where a client wrote them, come out severed.

    Raises InvalidRequest when the source does not compile or is over its size limit.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_text: str = "",
        eos_text: str = "",
        special_texts: Iterable[str] = (),
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise InvalidRequest(
                f"the model's chat template has {len(source)} characters; the limit is {MAX_TEMPLATE_CHARS}"
            )
        # A single character cannot be severed; no model spells a control token so.
        self._special_texts = tuple(text for text in special_texts if len(text) > 1)
        self._constants = {"bos_token": bos_text, "eos_token": eos_text}
        self._meter = Meter(seconds, clock)
        sandbox = Sandbox(self._meter, {"raise_exception": self._refuse, "strftime_now": _now})
        try:
            tree = sandbox.parse(source)
            variables = meta.find_undeclared_variables(tree)
            self.options = frozenset(variables - OWN_VARIABLES)  # what a client may set
            self.has_tools = "tools" in variables
            self._template = sandbox.from_string(tree)
        except (Exception, RecursionError) as error:  # jinja and Python's own compiler raise what they like
            raise InvalidRequest(f"the model's chat template does not compile: {error}") from error

    def render(
        self,
        messages: Sequence[Message | Turn],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as the model was trained to read it; `tools` as functions' JSON descriptions.

        Raises TemplateRefusal when the template calls `raise_exception`, UnsupportedParameter for an option
        that the template does not know, and InvalidRequest when it fails or goes over a limit.
        """
        unknown = sorted(set(options or {}) - self.options)
        if unknown:
            raise UnsupportedParameter(
                f"this model's chat template has no option {unknown[0]!r}",
                param=f"chat_template_kwargs.{unknown[0]}",
            )
        given = sever(
            {**(options or {}), "messages": [_turn(message) for message in messages], "tools": tools},
            self._special_texts,
        )
        self._meter.begin()
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                {**self._constants, **given}, add_generation_prompt=add_generation_prompt
            ):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_OUTPUT_CHARS:
                    raise LimitReached(f"writes more than {MAX_OUTPUT_CHARS} characters")
        except HearthError:
            raise
        except LimitReached as error:
            raise InvalidRequest(f"the model's chat template {error}") from error
        except (RecursionError, MemoryError) as error:
            raise InvalidRequest("the model's chat template nests too deeply") from error
        except Exception as error:  # it is a stranger's program: it may raise anything
            raise InvalidRequest(
                f"the model's chat template cannot render this conversation: {error}"
            ) from error
        return "".join(pieces)

    def severed(self, text: str) -> str:
        """A client's text as `render` would write it."""
        return str(sever(text, self._special_texts))

    def _refuse(self, message: object) -> NoReturn:
        self._meter.weigh(message)
        raise TemplateRefusal(
            f"the model's chat template refuses this conversation: {str(message)[:500]}", param="messages"
        )


def _turn(message: Message | Turn) -> Turn:
    if not isinstance(message, Message):
        return message
    turn = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(str(pattern)[:100])


SEVER = "\ud800"  # a lone surrogate: no text that came over the wire as UTF-8 contains one


def sever(value: Any, special_texts: Iterable[str]) -> Any:
    """What a client sent, a text or JSON values of texts, with `SEVER` inside every control token's text.

    A client must not be able to end its own turn or forge another's by writing `<|im_end|>`. Splitting at
    `SEVER` gives the client's words back, in parts none of which is a control token's text.
    """
    if isinstance(value, str):
        for special in special_texts:
            while special in value:
                value = value.replace(special, special[0] + SEVER + special[1:])
        return value
    if isinstance(value, (list, tuple)):
        return [sever(item, special_texts) for item in value]
    if isinstance(value, dict):
        return {sever(key, special_texts): sever(item, special_texts) for key, item in value.items()}
    return value
