"""One response, from its request to its last event.

`prepare` reads the request and what came before it; `Job.start` searches and gets the generation its slot, so
that until then a refusal is an HTTP error; `Job.events` writes, and keeps the response before its last event
tells of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.context import runtime_of
from appliance.api.generation import now, started_of
from appliance.api.grounding import FromPassages, Grounding
from appliance.api.opening import Generation, given_of, open_generation, scheduling_class_of
from appliance.api.responses import rules
from appliance.api.responses.compaction import compact
from appliance.api.responses.context import conversation_id, earlier_items, resolved, since_compaction
from appliance.api.responses.events import Event, LifecycleEvent, Writer
from appliance.api.responses.fitting import count_tokens, truncated
from appliance.api.responses.items import input_items, normal
from appliance.api.responses.keeping import keep_response
from appliance.api.responses.replies import CompactionItem, ConversationId, ResponseBody, new_id
from appliance.api.responses.schemas import ContextFields, CreateResponse, Item
from appliance.api.responses.searching import Search, without_results
from appliance.api.responses.translate import (
    Toolbox,
    constraint_of,
    prompt_of,
    sampling_fields,
    sampling_of,
    toolbox_of,
    wants_logprobs,
)
from appliance.api.responses.turns import turns_of
from appliance.errors import Cancelled, HearthError, InternalError, MissingParameter
from appliance.records import ChatPrompt, Delta, Ended, Message, Started, Usage
from appliance.routing.request import Route


class Context:
    """What a request asks the model: the turns before and of it, and the tools. `new`: its own items."""

    def __init__(
        self, request: ContextFields, new: list[dict[str, Any]], turns: list[Message], toolbox: Toolbox
    ) -> None:
        self.request, self.new, self.turns, self.toolbox = request, new, turns, toolbox

    def prompt(self) -> ChatPrompt:
        return prompt_of(self.request, self.turns, self.toolbox)


async def context_of(http: Request, request: ContextFields) -> Context:
    """Raises the errors of `turns`, `translate` and `context`, MissingParameter when nothing is said."""
    toolbox = toolbox_of(request)
    earlier = await earlier_items(http, request)
    items = await resolved(http, input_items(request.input))
    everything = since_compaction([*earlier, *items])
    turns = turns_of(everything, first=max(0, len(everything) - len(items)))
    if not turns and not request.instructions:
        raise MissingParameter("the parameter 'input' is required", param="input")
    return Context(request, [normal(item) for item in items], turns, toolbox)


class Job:
    """A response in the making. `body` is what there is of it so far."""

    def __init__(self, http: Request, request: CreateResponse, context: Context, warnings: list[str]) -> None:
        self._http, self._request, self._context = http, request, context
        self._warnings = warnings
        self.is_kept = request.store is not False
        self.body = _body(http, request, context, keeps=self.is_kept)
        self.body.warnings = warnings
        encrypts = "reasoning.encrypted_content" in (request.include or ())
        self.writer = Writer(self.body, has_logprobs=wants_logprobs(request), encrypts=encrypts)
        self._usages: list[Usage] = []
        self._search: Search | None = None
        self._compaction: CompactionItem | None = None
        self._generation: Generation | None = None

    @property
    def new_items(self) -> list[dict[str, Any]]:
        return self._context.new

    @property
    def routes(self) -> list[Route]:
        """Who answers; nobody before `start`."""
        return [] if self._generation is None else [self._generation.route()]

    async def start(self) -> None:
        """Raises what a search and a generation raise before they begin."""
        runtime, request, http = runtime_of(self._http), self._request, self._http
        sampling = sampling_of(request, runtime.settings.generator)
        if self._context.toolbox.search is not None:
            self._search = Search(self._context.toolbox.search, self._context.turns)
            await self._search.run(http)
            self._warnings += self._search.warnings
        prompt = await self._fitted()
        passages = self._search.passages(runtime.settings.knowledge.min_relevance) if self._search else ()
        grounding = Grounding(request.model)
        if self._search is not None and passages:
            grounding = FromPassages(request.model, self._search.bases, self._search.queries[0], passages)
            prompt = msgspec.structs.replace(prompt, messages=grounding.messages(prompt.messages))
        given = given_of(sampling_fields(request))
        generation = open_generation(
            http,
            model=request.model,
            prompt=prompt,
            sampling=grounding.sampling(sampling, given),
            given=given,
            constraint=constraint_of(request),
            deadline=request.timeout,
            scheduling_class=scheduling_class_of(request.service_tier),
            conversation=request.prompt_cache_key or conversation_id(request) or "",
            bases=grounding.bases,
            is_local_only=grounding.is_local_only,
        )
        try:
            self._warnings += (await started_of(generation.events)).warnings
        except BaseException:
            await generation.events.aclose()
            raise
        self._generation = generation.with_events(grounding.events(generation.events))

    async def _fitted(self) -> ChatPrompt:
        """The prompt, compacted or shortened where the request lets that be done."""
        request, prompt = self._request, self._context.prompt()
        for rule in request.context_management or ():
            if rule.compact_threshold is None or self._compaction is not None:
                continue
            if await count_tokens(self._http, request.model, prompt) > rule.compact_threshold:
                await self._compact()
                prompt = self._context.prompt()
        if request.truncation != "auto":
            return prompt
        prompt, left_out = await truncated(self._http, request.model, prompt, request.max_output_tokens)
        if left_out:
            self._warnings.append(f"the oldest {left_out} messages were left out (truncation: auto)")
        return prompt

    async def _compact(self) -> None:
        """Everything said so far becomes its summary; what the user said last is said again."""
        turns = self._context.turns
        last = next((turn for turn in reversed(turns) if turn.role == "user"), None)
        before = [turn for turn in turns if turn is not last]
        if last is None or not before:
            return
        self._compaction, usage = await compact(self._http, self._request.model, before)
        self._usages.append(usage)
        (summary,) = turns_of([_as_item(self._compaction)])
        asked = f"{summary.content}\n\n{last.content}"
        self._context.turns = [Message(role="user", content=asked)]
        self._warnings.append(
            f"the {len(before)} messages before were summed up (context_management.compact_threshold)"
        )

    async def events(self, *, raises: bool = False) -> AsyncGenerator[Event]:
        """From `response.created` to the last event, which an error on the way is too, unless it `raises`."""
        yield self.writer.lifecycle("created")
        if self.body.background:
            yield self.writer.lifecycle("queued")
        yield self.writer.lifecycle("in_progress")
        try:
            async for event in self._written():
                if isinstance(event, LifecycleEvent):
                    await self._keep()
                yield event
        except Cancelled:
            raise
        except HearthError as error:
            if raises:
                raise
            last = self.writer.fail(error)
            await self._keep()
            yield last
        finally:
            await self.close()

    async def _written(self) -> AsyncGenerator[Event]:
        if self._compaction is not None:
            yield self.writer.add_item(self._compaction)
            yield self.writer.progress("compaction.compacting", self._compaction)
            yield self.writer.item_done(self._compaction)
        if self._search is not None:
            for event in self._searched(self._search):
                yield event
        assert self._generation is not None, "start comes first"
        async for each in self._generation.events:
            if isinstance(each, list):
                for event in self._fed(each):
                    yield event
            elif isinstance(each, Ended):
                for event in self.writer.end(_sum([*self._usages, each.usage])):
                    yield event
                return
            elif not isinstance(each, Started):
                raise InternalError("a generation said something else than deltas and its end")
        raise InternalError("a generation ended without its end")

    def _fed(self, deltas: Sequence[Delta]) -> list[Event]:
        self._warnings += [warning for delta in deltas for warning in delta.warnings]
        return [event for delta in deltas for event in self.writer.feed(delta)]

    def _searched(self, search: Search) -> list[Event]:
        item = search.item
        if "file_search_call.results" not in (self._request.include or ()):
            item = without_results(item)
        events: list[Event] = [self.writer.add_item(item)]
        events += [
            self.writer.progress(f"file_search_call.{stage}", item)
            for stage in ("in_progress", "searching", "completed")
        ]
        item.status = "completed"
        return [*events, self.writer.item_done(item)]

    async def _keep(self) -> None:
        if self.is_kept:
            await keep_response(self._http, self.body, self.new_items)

    async def close(self) -> None:
        if self._generation is not None:
            await self._generation.events.aclose()


async def prepare(http: Request, request: CreateResponse) -> Job:
    """Raises the errors of `rules` and `context_of`."""
    warnings = rules.check_create(request)
    runtime = runtime_of(http)
    runtime.router.check_model(request.model, "chat")  # a wrong model is told before anything is looked up
    if request.store is not False:
        _ = runtime.archive
    return Job(http, request, await context_of(http, request), warnings)


def _body(http: Request, request: CreateResponse, context: Context, *, keeps: bool) -> ResponseBody:
    defaults = runtime_of(http).settings.generator
    conversation = conversation_id(request)
    return ResponseBody(
        id=new_id("resp"),
        created_at=now(),
        status="queued",
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        output=[],
        parallel_tool_calls=context.toolbox.choice.parallel,
        previous_response_id=request.previous_response_id,
        conversation=None if conversation is None else ConversationId(id=conversation),
        prompt_cache_key=request.prompt_cache_key,
        reasoning={"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
        safety_identifier=request.safety_identifier,
        service_tier=scheduling_class_of(request.service_tier),
        store=keeps,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        text={"format": {"type": "text"}} | (msgspec.to_builtins(request.text) if request.text else {}),
        tool_choice=msgspec.to_builtins(request.tool_choice) or "auto",
        tools=[_tool_shown(tool) for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=request.metadata or {},
        warnings=[],
    )


def _tool_shown(tool: Any) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(tool)
    return ({"parameters": None, "strict": None} if tool.type == "function" else {}) | shown


def _as_item(item: CompactionItem) -> Item:
    return Item(type="compaction", encrypted_content=item.encrypted_content)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
