"""The events of a response's stream, and the writer that makes them of a generation's deltas.

Source of the order: OpenAI's streaming reference. Every event has the next sequence number; an item is added,
grows, and is done before the next one begins; the last event carries the whole response.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import UNSET, Struct

from appliance.api.generation import now
from appliance.api.replies import ContentLogprob, content_logprob
from appliance.api.responses.items import wrapped
from appliance.api.responses.replies import (
    FileCitation,
    FunctionCallItem,
    IncompleteDetails,
    ItemStatus,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseBody,
    ResponseError,
    new_id,
    response_usage,
)
from appliance.errors import HearthError
from appliance.records import Citation, Delta, FinishReason, TokenLogprob, ToolCallDelta, Usage

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


class Writer:
    """Writes one response: `body` grows with every event, and is whole with the last one.

    `has_logprobs`: tell the tokens' probabilities; `encrypts`: give reasoning in its portable form too.
    """

    def __init__(self, body: ResponseBody, *, has_logprobs: bool = False, encrypts: bool = False) -> None:
        self.body = body
        self._has_logprobs, self._encrypts = has_logprobs, encrypts
        self._sequence = -1
        self._open: MessageItem | ReasoningItem | FunctionCallItem | None = None
        self._call_index = -1
        self._pieces: list[str] = []
        self._logprobs: list[ContentLogprob] = []
        self._unsent: list[ContentLogprob] = []  # of tokens that have not made a whole character yet
        self._reason: FinishReason = "stop"

    @property
    def next_number(self) -> int:
        self._sequence += 1
        return self._sequence

    # A response's life

    def lifecycle(self, stage: Lifecycle) -> LifecycleEvent:
        self.body.status = "in_progress" if stage == "created" else stage
        return LifecycleEvent(type=f"response.{stage}", sequence_number=self.next_number, response=self.body)

    def end(self, usage: Usage) -> Iterator[Event]:
        """What is left to tell when the generation is over and well."""
        if not any(
            item.type in ("message", "function_call") for item in (*self.body.output, self._open) if item
        ):
            yield from self._begin_message()
        is_cut = self._reason in ("length", "content_filter")
        yield from self._close("incomplete" if is_cut else "completed")
        self.body.usage = response_usage(usage)
        if is_cut:
            by_length = self._reason == "length"
            self.body.incomplete_details = IncompleteDetails(
                reason="max_output_tokens" if by_length else "content_filter"
            )
            yield self.lifecycle("incomplete")
            return
        self.body.completed_at = now()
        yield self.lifecycle("completed")

    def fail(self, error: HearthError) -> LifecycleEvent:
        """The last event of a response that cannot go on."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        self.body.error = ResponseError(
            code="invalid_prompt" if error.status == 400 else code, message=error.message
        )
        return self.lifecycle("failed")

    # Items that are made whole elsewhere

    def add_item(self, item: Any) -> ItemEvent:
        self.body.output.append(item)
        return self._item_event("added", item)

    def progress(self, kind: str, item: Any) -> ProgressEvent:
        return ProgressEvent(
            type=f"response.{kind}",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item.id,
        )

    def item_done(self, item: Any) -> ItemEvent:
        return self._item_event("done", item)

    # What the model writes

    def feed(self, delta: Delta) -> Iterator[Event]:
        if delta.reasoning:
            yield from self._think(delta.reasoning)
        if delta.text or (delta.logprobs and self._has_logprobs and isinstance(self._open, MessageItem)):
            yield from self._say(delta.text, delta.logprobs)
        for piece in delta.tool_calls:
            yield from self._call(piece)
        if delta.citations and isinstance(self._open, MessageItem):
            yield from self._cite(self._open, delta.citations)
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason

    def _say(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Event]:
        item = self._open
        if not isinstance(item, MessageItem):
            yield from self._close("completed")
            yield from self._begin_message()
            item = self._open
            assert isinstance(item, MessageItem)
        if self._has_logprobs:
            self._unsent += [content_logprob(each) for each in logprobs]
        if not text:
            return
        self._pieces.append(text)
        sent, self._unsent = self._unsent, []
        self._logprobs += sent
        yield TextDelta(
            type="response.output_text.delta",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item.id,
            delta=text,
            logprobs=sent,
        )

    def _think(self, text: str) -> Iterator[Event]:
        item = self._open
        if not isinstance(item, ReasoningItem):
            yield from self._close("completed")
            item = ReasoningItem(id=new_id("rs"), content=[])
            yield from self._begin(item)
            yield self._part("added", item.id, ReasoningText())
        self._pieces.append(text)
        yield ReasoningDelta(
            type="response.reasoning_text.delta",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item.id,
            delta=text,
        )

    def _call(self, piece: ToolCallDelta) -> Iterator[Event]:
        item = self._open
        if not isinstance(item, FunctionCallItem) or piece.index != self._call_index:
            yield from self._close("completed")
            item = FunctionCallItem(
                id=new_id("fc"), call_id=piece.id or new_id("call"), name=piece.name or ""
            )
            self._call_index = piece.index
            yield from self._begin(item)
        if piece.arguments:
            self._pieces.append(piece.arguments)
            yield ArgumentsDelta(
                type="response.function_call_arguments.delta",
                sequence_number=self.next_number,
                output_index=len(self.body.output) - 1,
                item_id=item.id,
                delta=piece.arguments,
            )

    def _cite(self, item: MessageItem, citations: tuple[Citation, ...]) -> Iterator[Event]:
        annotations = item.content[0].annotations
        for citation in citations:
            annotation = FileCitation(
                index=citation.start_index,
                file_id=citation.file_id,
                filename=citation.filename,
                quote=citation.quote,
                page=citation.page,
            )
            annotations.append(annotation)
            yield AnnotationAdded(
                type="response.output_text.annotation.added",
                sequence_number=self.next_number,
                output_index=len(self.body.output) - 1,
                item_id=item.id,
                annotation_index=len(annotations) - 1,
                annotation=annotation,
            )

    # Beginnings and ends

    def _begin_message(self) -> Iterator[Event]:
        item = MessageItem(id=new_id("msg"), content=[])
        yield from self._begin(item)
        part = OutputText(annotations=[], logprobs=[])
        yield self._part("added", item.id, part)
        item.content.append(part)

    def _begin(self, item: MessageItem | ReasoningItem | FunctionCallItem) -> Iterator[Event]:
        self._open, self._pieces, self._logprobs, self._unsent = item, [], [], []
        yield self.add_item(item)

    def _close(self, status: ItemStatus) -> Iterator[Event]:
        item, text = self._open, "".join(self._pieces)
        if item is None:
            return
        self._open = None
        where = len(self.body.output) - 1
        item.status = status
        if isinstance(item, MessageItem):
            part = item.content[0]
            part.text, part.logprobs = text, self._logprobs
            yield TextDone(
                type="response.output_text.done",
                sequence_number=self.next_number,
                output_index=where,
                item_id=item.id,
                text=text,
                logprobs=part.logprobs,
            )
            yield self._part("done", item.id, part)
        elif isinstance(item, ReasoningItem):
            item.content.append(ReasoningText(text=text))
            item.encrypted_content = wrapped(text) if self._encrypts else UNSET
            yield ReasoningDone(
                type="response.reasoning_text.done",
                sequence_number=self.next_number,
                output_index=where,
                item_id=item.id,
                text=text,
            )
            yield self._part("done", item.id, item.content[0])
        else:
            item.arguments = text
            yield ArgumentsDone(
                type="response.function_call_arguments.done",
                sequence_number=self.next_number,
                output_index=where,
                item_id=item.id,
                name=item.name,
                arguments=text,
            )
        yield self.item_done(item)

    def _part(self, stage: str, item: str, part: OutputText | ReasoningText) -> PartEvent:
        return PartEvent(
            type=f"response.content_part.{stage}",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item,
            part=part,
        )

    def _item_event(self, stage: str, item: Any) -> ItemEvent:
        return ItemEvent(
            type=f"response.output_item.{stage}",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item=item,
        )
