"""How well and how fast knowledge bases find: nDCG@10 on Cranfield and XQuAD, ingest speed, stages.

    python -m tests.bench.knowledge [--sets cranfield,xquad-en,xquad-zh] [--queries N] [--rerank]

Every document is ingested as a file through the real pipeline (extractor process, encoder process, SQLite,
index); every query is a real search. A hit's chunk stands for its document, first come first counted. Printed
beside the full pipeline: BM25 alone, vectors alone, without feedback, by reciprocal ranks, and, with
--rerank, reranked; and how many questions are found relevant, of this set's and of another's. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.config.schema import Knowledge as Settings
from appliance.errors import NotFound
from appliance.knowledge.retrieve import Tuning
from appliance.knowledge.service import Knowledge
from appliance.knowledge.views import NewDocument
from appliance.principal import LOCAL
from appliance.store.rows import Page
from tests.knowledge.conftest import opened, pieces

DATA = Path(__file__).parents[3] / "shared" / "data"
SETS = ("cranfield", "xquad-en", "xquad-zh")
GOALS = {"cranfield": 0.43, "xquad-en": 0.98, "xquad-zh": 0.97}
EMBEDDER, RERANKER = "multilingual-e5-small", "ms-marco-minilm-l-12-v2"
FOREIGN = {"cranfield": "xquad-en", "xquad-en": "cranfield", "xquad-zh": "cranfield"}
FOREIGN_QUERIES = 200
CUTOFF = 10
CHUNKS_ASKED = 40
VARIANTS = {
    "full": Tuning(),
    "bm25": Tuning(vector_weight=0.0, feedback_chunks=0),
    "vectors": Tuning(word_weight=0.0, feedback_chunks=0),
    "no_feedback": Tuning(feedback_chunks=0),
    "reciprocal_ranks": Tuning(by_rank=True, feedback_chunks=0, vector_weight=1.0),
    "reciprocal_ranks_feedback": Tuning(by_rank=True),
}


@dataclass(frozen=True)
class Task:
    """Documents as (name, content), and queries with the numbers of the documents that answer each."""

    documents: list[tuple[str, str]]
    queries: list[tuple[str, set[int]]]


def read_cranfield(data: Path) -> Task:
    """Judgements go with queries by order, not by <num>; see the data's README."""
    text = (data / "cran.all.1400.xml").read_text("utf-8")
    documents, numbers = [], {}
    for entry in re.findall(r"<doc>(.*?)</doc>", text, re.DOTALL):
        number, title, body = (_tag(entry, tag) for tag in ("docno", "title", "text"))
        numbers[number] = len(documents)
        if body:  # two abstracts are empty
            documents.append((f"{number}.md", f"# {' '.join(title.split())}\n\n{body}\n"))
        else:
            del numbers[number]
    titles = re.findall(r"<title>(.*?)</title>", (data / "cran.qry.xml").read_text("utf-8"), re.DOTALL)
    answers: list[set[int]] = [set() for _ in titles]
    for line in (data / "cranqrel.trec.txt").read_text("utf-8").splitlines():
        query, _, document, grade = line.split()
        if int(grade) > 0 and document in numbers:
            answers[int(query) - 1].add(numbers[document])
    queries = [(" ".join(title.split()), found) for title, found in zip(titles, answers, strict=True)]
    return Task(documents, [query for query in queries if query[1]])


def _tag(entry: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", entry, re.DOTALL)
    return html.unescape(found[1]).strip() if found else ""


def read_xquad(data: Path, language: str) -> Task:
    documents: list[tuple[str, str]] = []
    queries = []
    for article in json.loads((data / f"xquad.{language}.json").read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            queries += [(asked["question"], {len(documents)}) for asked in paragraph["qas"]]
            documents.append((f"{len(documents)}.txt", paragraph["context"]))
    return Task(documents, queries)


def read_task(name: str, data: Path) -> Task:
    return read_cranfield(data) if name == "cranfield" else read_xquad(data, name.rsplit("-", 1)[1])


def ndcg(ranked: Sequence[int], answers: set[int]) -> float:
    """Binary nDCG at CUTOFF."""
    gain = sum(1 / math.log2(place + 2) for place, id in enumerate(ranked[:CUTOFF]) if id in answers)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(CUTOFF, len(answers))))
    return gain / ideal


async def ingest(knowledge: Knowledge, name: str, task: Task) -> tuple[str, dict[str, int], float]:
    """A base with the task's documents; each file's number, and the seconds that ingest took."""
    names = {file_name: number for number, (file_name, _) in enumerate(task.documents)}
    with contextlib.suppress(NotFound):
        known = (await knowledge.bases.find(LOCAL, name)).id
        found, _ = await knowledge.documents.list(LOCAL, known, Page(limit=100_000))
        return known, {document.file: names[document.name] for document in found}, 0.0
    base = await knowledge.bases.create(LOCAL, name)
    numbers = {}
    for number, (file_name, content) in enumerate(task.documents):
        file = await knowledge.files.store(LOCAL, file_name, "assistants", pieces(content.encode()))
        numbers[file.id] = number
    begun = time.perf_counter()
    await knowledge.documents.add(LOCAL, base.id, [NewDocument(id) for id in numbers])
    counts = await knowledge.documents.wait_until_read(LOCAL, base.id)
    assert counts.completed == len(numbers), counts
    return base.id, numbers, time.perf_counter() - begun


async def evaluate(
    knowledge: Knowledge, base: str, numbers: dict[str, int], task: Task, rerank: bool = False
) -> tuple[float, dict[str, float]]:
    """Mean nDCG@10, and the mean milliseconds of each stage."""
    total = 0.0
    stages: dict[str, float] = {}
    for text, answers in task.queries:
        answer = await knowledge.search(LOCAL, base, [text], CHUNKS_ASKED, rerank=rerank)
        ranked = list(dict.fromkeys(numbers[found.hit.file] for found in answer.candidates))
        total += ndcg(ranked, answers)
        for stage, seconds in answer.seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds * 1000 / len(task.queries)
    return total / len(task.queries), {name: round(value, 2) for name, value in stages.items()}


async def answered_share(knowledge: Knowledge, base: str, queries: Sequence[str]) -> float:
    """The share of the questions that chat answers; to the others it says that nothing is there."""
    least = Settings().min_relevance
    answers = [await knowledge.search(LOCAL, base, [text], 1) for text in queries]
    return sum(answer.relevance >= least for answer in answers) / len(answers)


async def measure(directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    models = (EMBEDDER, RERANKER) if arguments.rerank else (EMBEDDER,)
    figures: dict[str, object] = {}
    async with opened(directory, models) as knowledge:
        for name in arguments.sets.split(","):
            task = read_task(name, arguments.data)
            if arguments.queries:
                task = Task(task.documents, task.queries[:: max(1, len(task.queries) // arguments.queries)])
            base, numbers, seconds = await ingest(knowledge, name, task)
            print(f"{name}: {len(numbers)} documents in {seconds:.1f} s", flush=True)
            found: dict[str, object] = {"queries": len(task.queries), "goal": GOALS[name]}
            for variant, tuning in VARIANTS.items():
                knowledge.tune(tuning)
                score, stages = await evaluate(knowledge, base, numbers, task)
                found[variant] = round(score, 4)
                if variant == "full":
                    found["stage_milliseconds"] = stages
                print(f"{name} {variant}: {score:.4f}", flush=True)
            knowledge.tune(Tuning())
            others = read_task(FOREIGN[name], arguments.data).queries[:FOREIGN_QUERIES]
            found["answered_own"] = round(
                await answered_share(knowledge, base, [text for text, _ in task.queries]), 4
            )
            found["answered_foreign"] = round(
                await answered_share(knowledge, base, [text for text, _ in others]), 4
            )
            print(
                f"{name} answered: {found['answered_own']}, foreign {found['answered_foreign']}", flush=True
            )
            if arguments.rerank:
                score, _ = await evaluate(knowledge, base, numbers, task, rerank=True)
                found["reranked"] = round(score, 4)
                print(f"{name} reranked: {score:.4f}", flush=True)
            figures[name] = found
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="retrieval quality of knowledge bases")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--queries", type=int, default=0, help="about this many of each set; 0: all")
    parser.add_argument("--rerank", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--directory", type=Path, help="keep the bases here, and use those that are there")
    arguments = parser.parse_args(argv)
    if not (arguments.data / "xquad.en.json").is_file():
        print(f"skipped: {arguments.data} has no evaluation data")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        figures = asyncio.run(measure(arguments.directory or Path(temporary), arguments))
    print(msgspec.json.encode({"benchmark": "knowledge", "results": figures}).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
