"""One response, from its request to its last event.

`prepare` reads the request and what came before it; `Job.start` searches, runs the calls that were approved
and gets the generation its slot, so that until then a refusal is an HTTP error; `Job.events` writes, turn
after turn while the model calls tools that this server runs, and keeps the response before its last event
tells of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.context import principal_of, require_keeper, runtime_of
from appliance.api.generation import started_of
from appliance.api.grounding import FromPassages, Grounding
from appliance.api.opening import Generation, given_of, open_generation, scheduling_class_of
from appliance.api.responses import rules
from appliance.api.responses.beginning import new_body
from appliance.api.responses.calling import Calls
from appliance.api.responses.compaction import compact
from appliance.api.responses.context import conversation_id
from appliance.api.responses.events import Event, LifecycleEvent
from appliance.api.responses.fitting import count_tokens, truncated
from appliance.api.responses.keeping import keep_response
from appliance.api.responses.prompting import Context, context_of
from appliance.api.responses.replies import CompactionItem, ServerCallItem
from appliance.api.responses.schemas import CreateResponse, Item
from appliance.api.responses.searching import Search, without_results
from appliance.api.responses.translate import constraint_of, sampling_fields, sampling_of, wants_logprobs
from appliance.api.responses.turns import turns_of
from appliance.api.responses.writer import Writer
from appliance.api.visible import models_of
from appliance.errors import Cancelled, HearthError, InternalError
from appliance.records import (
    ChatPrompt,
    Delta,
    Ended,
    Message,
    RegexConstraint,
    SamplingParams,
    Started,
    Usage,
)
from appliance.routing.request import Route

# What a model that has had its calls may say: small ones would write a further one as text.
IN_WORDS = RegexConstraint(pattern=r"[^\s!-/:-@\[-`{-~](.|\n)*")
UNANSWERED = ("function_call", "mcp_approval_request")  # the client's to answer before the model goes on


class Job:
    """A response in the making. `body` is what there is of it so far."""

    def __init__(self, http: Request, request: CreateResponse, context: Context, warnings: list[str]) -> None:
        self._http, self._request, self._context = http, request, context
        self._warnings = warnings
        self.is_kept = request.store is not False
        self.body = new_body(http, request, context, keeps=self.is_kept)
        self.body.warnings = warnings
        encrypts = "reasoning.encrypted_content" in (request.include or ())
        tools = context.toolbox.server_tools
        self.writer = Writer(
            self.body, has_logprobs=wants_logprobs(request), encrypts=encrypts, server_tools=tools
        )
        self._calls = Calls(http, tools, request.max_tool_calls)
        self._approved: list[ServerCallItem] = []
        self._usages: list[Usage] = []
        self._turn_usages: list[Usage] = []  # without those of summaries
        self._search: Search | None = None
        self._grounding = Grounding(request.model)
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
        """Raises what a search, an approved call and a generation raise before they begin."""
        context = self._context
        if context.toolbox.search is not None:
            self._search = Search(context.toolbox.search, context.turns)
            await self._search.run(self._http)
            self._warnings += self._search.warnings
            least = runtime_of(self._http).settings.knowledge.min_relevance
            if passages := self._search.passages(least):
                self._grounding = FromPassages(
                    self._request.model, self._search.bases, self._search.queries[0], passages
                )
        for call in self._calls.approved(context.items, context.first):
            await self._calls.run(call)
            self._approved.append(call)
        if self._approved:
            context.say(self._approved)
        await self._open()

    async def _open(self) -> None:
        """The generation of the model's next turn."""
        request, grounding = self._request, self._grounding
        prompt = await self._fitted()
        prompt = msgspec.structs.replace(prompt, messages=grounding.messages(prompt.messages))
        given = given_of(sampling_fields(request))
        generation = open_generation(
            self._http,
            model=request.model,
            prompt=prompt,
            sampling=grounding.sampling(self._sampling(), given),
            given=given,
            constraint=constraint_of(request) or (IN_WORDS if self._calls.are_over else None),
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

    def _sampling(self) -> SamplingParams:
        """`max_output_tokens` is for all turns together."""
        sampling = sampling_of(self._request, runtime_of(self._http).settings.generator)
        if sampling.max_tokens is None:
            return sampling
        left = sampling.max_tokens - sum(usage.completion_tokens for usage in self._turn_usages)
        return msgspec.structs.replace(sampling, max_tokens=max(1, left))

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
        for event in self._listed_and_approved():
            yield event
        while True:
            first = len(self.body.output)
            async for event in self._turn():
                yield event
            items = self.body.output[first:]
            calls = [item for item in items if isinstance(item, ServerCallItem)]
            for call in calls:
                async for event in self._called(call):
                    yield event
            if not calls or self.writer.is_cut or any(item.type in UNANSWERED for item in items):
                break
            self._warnings += self._calls.new_warnings()
            if self._calls.are_over:
                self._context.forbid_tools()
            if not self._calls.has_repeated:  # or a small model would go on to repeat what it reads
                self._context.say(items)
            await self._open()
        for event in self.writer.end(_sum(self._usages)):
            yield event

    async def _turn(self) -> AsyncGenerator[Event]:
        """What the model says and calls, until it stops."""
        assert self._generation is not None, "start comes first"
        async for each in self._generation.events:
            if isinstance(each, list):
                for event in self._fed(each):
                    yield event
            elif isinstance(each, Ended):
                self._usages.append(each.usage)
                self._turn_usages.append(each.usage)
                for event in self.writer.end_turn():
                    yield event
                return
            elif not isinstance(each, Started):
                raise InternalError("a generation said something else than deltas and its end")
        raise InternalError("a generation ended without its end")

    def _listed_and_approved(self) -> Iterator[Event]:
        for listing in self._context.listings:
            yield self.writer.add_item(listing)
            yield self.writer.progress("mcp_list_tools.in_progress", listing)
            yield self.writer.progress(
                f"mcp_list_tools.{'failed' if listing.error else 'completed'}", listing
            )
            yield self.writer.item_done(listing)
        for call in self._approved:
            yield self.writer.add_item(call)
            yield self.writer.progress("mcp_call.in_progress", call)
            yield self.writer.progress(f"mcp_call.{call.status}", call)
            yield self.writer.item_done(call)

    async def _called(self, call: ServerCallItem) -> AsyncGenerator[Event]:
        """A call whose writing was cut is not run."""
        if call.status != "calling":
            return
        await self._calls.run(call)
        yield self.writer.progress(f"mcp_call.{call.status}", call)
        yield self.writer.item_done(call)

    def _fed(self, deltas: Sequence[Delta]) -> Iterator[Event]:
        """One by one: an event shows an item as it is then, and the next one changes it."""
        self._warnings += [warning for delta in deltas for warning in delta.warnings]
        for delta in deltas:
            yield from self.writer.feed(delta)

    def _searched(self, search: Search) -> Iterator[Event]:
        item = search.item
        if "file_search_call.results" not in (self._request.include or ()):
            item = without_results(item)
        yield self.writer.add_item(item)
        for stage in ("in_progress", "searching", "completed"):
            yield self.writer.progress(f"file_search_call.{stage}", item)
        item.status = "completed"
        yield self.writer.item_done(item)

    async def _keep(self) -> None:
        if self.is_kept:
            await keep_response(self._http, self.body, self.new_items)

    async def close(self) -> None:
        if self._generation is not None:
            await self._generation.events.aclose()


async def prepare(http: Request, request: CreateResponse) -> Job:
    """Raises the errors of `rules` and `context_of`."""
    warnings = rules.check_create(request)
    models_of(http).check(request.model, "chat")  # a wrong model is told before anything is looked up
    if request.store or request.background:
        require_keeper(http, "store" if request.store else "background")
    elif not principal_of(http).has_role("user"):
        request = msgspec.structs.replace(request, store=False)
    if request.store is not False:
        _ = runtime_of(http).archive
    return Job(http, request, await context_of(http, request), warnings)


def _as_item(item: CompactionItem) -> Item:
    return Item(type="compaction", encrypted_content=item.encrypted_content)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
