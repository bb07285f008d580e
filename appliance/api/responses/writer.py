"""Writes one response's events from a generation's deltas.

Every event has the next sequence number; an item is added, grows, and is done before the next one begins; the
last event carries the whole response. The one exception are calls that this server runs: what the model wrote
of them is done with its turn, the items themselves are done when the tools have answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from appliance.api.generation import now
from appliance.api.replies import ContentLogprob, content_logprob
from appliance.api.responses.events import (
    AnnotationAdded,
    ArgumentsDelta,
    ArgumentsDone,
    Event,
    ItemEvent,
    Lifecycle,
    LifecycleEvent,
    PartEvent,
    ProgressEvent,
    ReasoningDelta,
    ReasoningDone,
    ServerArgumentsDone,
    TextDelta,
    TextDone,
)
from appliance.api.responses.items import wrapped
from appliance.api.responses.replies import (
    ApprovalRequestItem,
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
    ServerCallItem,
    new_id,
    response_usage,
)
from appliance.api.responses.server_tools import ServerTool
from appliance.errors import HearthError
from appliance.records import Citation, Delta, FinishReason, TokenLogprob, ToolCallDelta, Usage

Written = MessageItem | ReasoningItem | FunctionCallItem | ServerCallItem | ApprovalRequestItem
CALLS = (FunctionCallItem, ServerCallItem, ApprovalRequestItem)
ENDINGS = ("message", "function_call", "mcp_approval_request")  # a response has at least one of them


class Writer:
    """Writes one response: `body` grows with every event, and is whole with the last one.

    `has_logprobs`: tell the tokens' probabilities; `encrypts`: give reasoning in its portable form too;
    `server_tools`: by name, those whose calls this server runs.
    """

    def __init__(
        self,
        body: ResponseBody,
        *,
        has_logprobs: bool = False,
        encrypts: bool = False,
        server_tools: Mapping[str, ServerTool] | None = None,
    ) -> None:
        self.body = body
        self._has_logprobs, self._encrypts = has_logprobs, encrypts
        self._server_tools = server_tools or {}
        self._sequence = -1
        self._open: Written | None = None
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

    @property
    def is_cut(self) -> bool:
        """Whether the model's last turn ended before it was done."""
        return self._reason in ("length", "content_filter")

    def end_turn(self) -> Iterator[Event]:
        """What is left to tell of the model's turn."""
        yield from self._close("incomplete" if self.is_cut else "completed")
        self._call_index = -1

    def end(self, usage: Usage) -> Iterator[Event]:
        """What is left to tell when the last turn has ended, and well."""
        yield from self.end_turn()
        if not any(item.type in ENDINGS for item in self.body.output):
            yield from self._begin_message()
            yield from self._close("incomplete" if self.is_cut else "completed")
        self.body.usage = response_usage(usage)
        if self.is_cut:
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
            output_index=self._place(item),
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
        if not isinstance(item, CALLS) or piece.index != self._call_index:
            yield from self._close("completed")
            item = self._call_item(piece)
            self._call_index = piece.index
            yield from self._begin(item)
            if isinstance(item, ServerCallItem):
                yield self.progress("mcp_call.in_progress", item)
        if not piece.arguments:
            return
        self._pieces.append(piece.arguments)
        if not isinstance(item, ApprovalRequestItem):  # which is told whole
            kind = "mcp_call" if isinstance(item, ServerCallItem) else "function_call"
            yield ArgumentsDelta(
                type=f"response.{kind}_arguments.delta",
                sequence_number=self.next_number,
                output_index=len(self.body.output) - 1,
                item_id=item.id,
                delta=piece.arguments,
            )

    def _call_item(self, piece: ToolCallDelta) -> FunctionCallItem | ServerCallItem | ApprovalRequestItem:
        name = piece.name or ""
        tool = self._server_tools.get(name)
        if tool is None:
            return FunctionCallItem(id=new_id("fc"), call_id=piece.id or new_id("call"), name=name)
        if tool.needs_approval:
            return ApprovalRequestItem(id=new_id("mcpr"), server_label=tool.server, name=name)
        return ServerCallItem(id=new_id("mcp"), server_label=tool.server, name=name)

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

    def _begin(self, item: Written) -> Iterator[Event]:
        self._open, self._pieces, self._logprobs, self._unsent = item, [], [], []
        yield self.add_item(item)

    def _close(self, status: ItemStatus) -> Iterator[Event]:
        item, text = self._open, "".join(self._pieces)
        if item is None:
            return
        self._open = None
        if not isinstance(item, ApprovalRequestItem):
            item.status = status
        if isinstance(item, MessageItem):
            yield from self._close_message(item, text)
        elif isinstance(item, ReasoningItem):
            yield from self._close_reasoning(item, text)
        else:
            item.arguments = text
            yield from self._close_call(item)
        if isinstance(item, ServerCallItem) and status == "completed":
            item.status = "calling"  # whoever runs it tells of its end
            return
        yield self.item_done(item)

    def _close_message(self, item: MessageItem, text: str) -> Iterator[Event]:
        part = item.content[0]
        part.text, part.logprobs = text, self._logprobs
        yield TextDone(
            type="response.output_text.done",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item.id,
            text=text,
            logprobs=part.logprobs,
        )
        yield self._part("done", item.id, part)

    def _close_reasoning(self, item: ReasoningItem, text: str) -> Iterator[Event]:
        item.content.append(ReasoningText(text=text))
        item.encrypted_content = wrapped(text) if self._encrypts else UNSET
        yield ReasoningDone(
            type="response.reasoning_text.done",
            sequence_number=self.next_number,
            output_index=len(self.body.output) - 1,
            item_id=item.id,
            text=text,
        )
        yield self._part("done", item.id, item.content[0])

    def _close_call(self, item: FunctionCallItem | ServerCallItem | ApprovalRequestItem) -> Iterator[Event]:
        where = len(self.body.output) - 1
        if isinstance(item, FunctionCallItem):
            yield ArgumentsDone(
                type="response.function_call_arguments.done",
                sequence_number=self.next_number,
                output_index=where,
                item_id=item.id,
                name=item.name,
                arguments=item.arguments,
            )
        elif isinstance(item, ServerCallItem):
            yield ServerArgumentsDone(
                type="response.mcp_call_arguments.done",
                sequence_number=self.next_number,
                output_index=where,
                item_id=item.id,
                arguments=item.arguments,
            )

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
            output_index=self._place(item),
            item=item,
        )

    def _place(self, item: Any) -> int:
        """Nearly always the last."""
        output = self.body.output
        return next(place for place in range(len(output) - 1, -1, -1) if output[place].id == item.id)
