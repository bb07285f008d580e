"""The text of a request that goes to another service: all of it, to be looked at, and without what must stay.

Pure. What has a form of its own (schemas, tool parameters, stop sequences) can be looked at but not redacted:
it would mean something else.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from appliance.records import ChatPrompt, Message, TextPrompt
from appliance.routing.request import RoutedRequest


def prompt_texts(request: RoutedRequest) -> list[str]:
    """What people and models wrote."""
    prompt = request.prompt
    if isinstance(prompt, TextPrompt):
        return [prompt.text]
    if not isinstance(prompt, ChatPrompt):
        return []
    texts = []
    for message in prompt.messages:
        texts += [message.content, message.reasoning, *(call.arguments for call in message.tool_calls)]
    return [text for text in (*texts, *(tool.description for tool in prompt.tools)) if text]


def formal_texts(request: RoutedRequest) -> list[str]:
    """What else of the client's goes along."""
    parts: list[object] = [request.constraint, request.sampling.stop]
    if isinstance(request.prompt, ChatPrompt):
        parts += [request.prompt.template_options, [tool.parameters for tool in request.prompt.tools]]
    return [msgspec.json.encode(part).decode() for part in parts if part]


def outbound(request: RoutedRequest) -> RoutedRequest:
    """The request as it may go online."""
    redact = request.sensitive.redact if request.sensitive is not None else None
    prompt = request.prompt
    if redact is None:
        return request
    if isinstance(prompt, TextPrompt):
        return replace(request, prompt=TextPrompt(text=redact(prompt.text)))
    if not isinstance(prompt, ChatPrompt):
        return request

    def redacted(message: Message) -> Message:
        calls = tuple(replace(call, arguments=redact(call.arguments)) for call in message.tool_calls)
        return replace(
            message, content=redact(message.content), reasoning=redact(message.reasoning), tool_calls=calls
        )

    tools = tuple(replace(tool, description=redact(tool.description)) for tool in prompt.tools)
    messages = tuple(redacted(message) for message in prompt.messages)
    return replace(request, prompt=replace(prompt, messages=messages, tools=tools))


def outbound_text(request: RoutedRequest, text: str) -> str:
    """The beginning of an answer that another model is to go on from."""
    if request.sensitive is None or request.sensitive.redact is None:
        return text
    return request.sensitive.redact(text)
