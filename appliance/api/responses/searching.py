"""file_search: the knowledge bases are searched with the user's question before the model speaks.

A small model does not know when to search; so wherever the tool may be used, it is. Its call is the first
item of the output, and the answer is written from what it found.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.filters import filter_of
from appliance.api.responses.replies import FileSearchItem, FileSearchResult, new_id
from appliance.api.responses.schemas import RankingOptions, ToolEntry
from appliance.errors import InvalidValue
from appliance.knowledge import prompt
from appliance.knowledge.filters import Filter
from appliance.knowledge.retrieve import Candidate
from appliance.records import Message
from appliance.store.rows import Base

DEFAULT_RESULTS = 20
RANKERS = ("auto", "default-2024-11-15")


class Search:
    """One search to be made. Raises InvalidValue for filters and rankers that there are not."""

    def __init__(self, tool: ToolEntry, turns: Sequence[Message]) -> None:
        options = tool.ranking_options or RankingOptions()
        if options.ranker is not None and options.ranker not in RANKERS:
            raise InvalidValue(
                f"ranking_options.ranker is {options.ranker!r}; there is: {', '.join(RANKERS)}",
                param="tools.ranking_options.ranker",
            )
        self._wanted = tool.vector_store_ids or []
        self.bases: list[Base] = []
        self._filter: Filter | None = None
        if tool.filters is not None:
            self._filter = filter_of(tool.filters, "tools.filters")
        self._limit = tool.max_num_results or DEFAULT_RESULTS
        self._least = options.score_threshold or 0.0
        self._reranks = options.ranker == "default-2024-11-15" or None
        self.queries = prompt.questions(turns)
        self.item = FileSearchItem(id=new_id("fs"))
        self.warnings: list[str] = []
        self._found: list[Candidate] = []
        self._relevance = 0.0

    async def run(self, http: Request) -> None:
        """Raises NotFound for a base that is not there."""
        runtime, principal = runtime_of(http), principal_of(http)
        for base in self._wanted:
            self.bases.append((await runtime.knowledge.bases.status(principal, base)).base)
            if not self.queries:
                continue
            answer = await runtime.knowledge.search(
                principal, base, self.queries, self._limit, filter=self._filter, rerank=self._reranks
            )
            self.warnings += answer.warnings
            self._relevance = max(self._relevance, answer.relevance)
            self._found += [each for each in answer.candidates if each.score >= self._least]
        self._found.sort(key=lambda each: -each.score)
        del self._found[self._limit :]
        self.item.queries = self.queries[:1]
        self.item.results = [_result(each) for each in self._found]

    def passages(self, least_relevance: float) -> tuple[Candidate, ...]:
        """What to show to the model: nothing, where the bases hold nothing about the question."""
        return prompt.chosen(self._found) if self._relevance >= least_relevance else ()


def _result(candidate: Candidate) -> FileSearchResult:
    hit = candidate.hit
    return FileSearchResult(
        file_id=hit.file,
        filename=hit.name,
        score=round(candidate.score, 6),
        text=hit.chunk.text,
        attributes=hit.attributes,
    )


def without_results(item: FileSearchItem) -> FileSearchItem:
    return msgspec.structs.replace(item, results=None)
