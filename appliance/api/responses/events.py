"""The events of a response's stream, as OpenAI's streaming reference and the SDK's types have them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from appliance.api.replies import ContentLogprob
from appliance.api.responses.replies import FileCitation, OutputText, ReasoningText, ResponseBody

Lifecycle = Literal["created", "queued", "in_progress", "completed", "incomplete", "failed"]


class Event(Struct, kw_only=True):
    type: str
    sequence_number: int


class LifecycleEvent(Event, kw_only=True):
    response: ResponseBody


class ItemEvent(Event, kw_only=True):
    """`item` is an output item's struct."""

    output_index: int
    item: Any


class ProgressEvent(Event, kw_only=True):
    """Of a search that is under way."""

    output_index: int
    item_id: str


class PartEvent(ProgressEvent, kw_only=True):
    content_index: int = 0
    part: OutputText | ReasoningText


class TextDelta(ProgressEvent, kw_only=True):
    content_index: int = 0
    delta: str
    logprobs: list[ContentLogprob] = []


class TextDone(ProgressEvent, kw_only=True):
    content_index: int = 0
    text: str
    logprobs: list[ContentLogprob] = []


class ReasoningDelta(ProgressEvent, kw_only=True):
    content_index: int = 0
    delta: str


class ReasoningDone(ProgressEvent, kw_only=True):
    content_index: int = 0
    text: str


class AnnotationAdded(ProgressEvent, kw_only=True):
    content_index: int = 0
    annotation_index: int
    annotation: FileCitation


class ArgumentsDelta(ProgressEvent, kw_only=True):
    delta: str


class ArgumentsDone(ProgressEvent, kw_only=True):
    name: str
    arguments: str


class ServerArgumentsDone(ProgressEvent, kw_only=True):
    arguments: str
