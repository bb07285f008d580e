"""The rows in which Hearth is held against itself: caches warm and cold, drafting on and off, settings."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.generation import jobs, texts
from tests.bench.generation.figures import Figure, median
from tests.bench.generation.load import Stream, ask, total_rate
from tests.bench.generation.rows import WORDS_OF_512, Bench, Round, in_turn

WORDS_OF_1000 = 900
PUMP = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "summary": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "score": {"type": "number"},
    },
    "required": ["title", "summary", "tags", "score"],
    "additionalProperties": False,
}
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "free": {},
    "schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "pump", "schema": PUMP, "strict": True},
        }
    },
    "regex": {"regex": "[a-z ,.]{100,600}"},
}
VARIANTS = (
    "generator.weights=map",
    "generator.weights=repack",
    "generator.cache_type=q8_0",
    "generator.flash_attention=off",
)


def prefix_cache(bench: Bench) -> Iterator[Figure]:
    """The first token behind a shared beginning of about 1,000 tokens: new, known, known before a restart."""

    def one(url: str, seed: int, question: int) -> Stream:
        system = texts.words(WORDS_OF_1000, seed)
        [stream] = ask(url, [jobs.chat(bench.model, system, texts.words(8, question), 4)])
        return stream

    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        with bench.hearth(2, home=home) as server:
            one(server.url, 900, 1)
            cold, warm = [], []
            for seed in range(1, bench.rounds + 1):
                cold.append(one(server.url, seed, 10 * seed))
                warm.append(one(server.url, seed, 10 * seed + 1))
        again = []
        for seed in range(1, bench.rounds + 1):
            with bench.hearth(2, home=home) as server:
                one(server.url, 800 + seed, 2)
                again.append(one(server.url, seed, 10 * seed + 2))
    reference = median(stream.first_token for stream in cold)
    for what, found, goal in (("warm", warm, 0.10), ("after a restart", again, 0.25)):
        yield bench.figure(
            "first token, 1k shared",
            what,
            "s",
            median(stream.first_token for stream in found),
            reference=reference,
            against="cold",
            goal=goal,
            at_most=True,
        )


def drafting(bench: Bench) -> Iterator[Figure]:
    """What guessing ahead brings where an answer copies, and costs where it does not."""

    def copying(seed: int) -> list[dict[str, Any]]:
        return [jobs.completion(bench.model, f"{texts.words(6, seed)}\n\n{texts.copying()}", 128)]

    kinds = (
        ("copying, one stream", copying, 1, 1.5),
        ("ordinary, one stream", lambda seed: jobs.distinct(bench.model, 1, 12, 128, seed), 1, 0.98),
        ("ordinary, 8 streams", lambda seed: jobs.distinct(bench.model, 8, 60, 64, seed), 8, 0.98),
    )
    with ExitStack() as stack:
        servers = [
            stack.enter_context(bench.hearth(8, f"generator.draft={draft}")) for draft in ("true", "false")
        ]
        for what, jobs_of, streams, goal in kinds:
            found = in_turn(servers, jobs_of, bench.rounds + 2 if streams == 1 else bench.rounds)
            rate, reference = (median(map(total_rate, each)) for each in found)
            if streams == 1:
                rate, reference = (median(one[0].decode_rate for one in each) for each in found)
            yield bench.figure(
                "drafting", what, "tok/s", rate, reference=reference, against="without", goal=goal
            )


def constrained(bench: Bench) -> Iterator[Figure]:
    """What holding an answer to a schema or a pattern costs, alone and in company, without drafts."""

    def jobs_of(streams: int, seed: int, constraint: dict[str, Any]) -> list[dict[str, Any]]:
        question = "Describe the pump as JSON with a title, a summary, tags and a score."
        asked = [
            jobs.chat(bench.model, texts.words(12, 100 * seed + n), question, 128) for n in range(streams)
        ]
        return [
            job | {"body": job["body"] | {"temperature": 0.8, "seed": seed} | constraint} for job in asked
        ]

    with bench.hearth(8, "generator.draft=false") as server:
        for streams in (1, 8):
            rates: dict[str, list[float]] = {kind: [] for kind in CONSTRAINTS}
            for seed in range(bench.rounds + 1):
                for kind, constraint in CONSTRAINTS.items():
                    answers = ask(server.url, jobs_of(streams, seed, constraint))
                    if seed > 0:  # the first of each kind compiles its grammar
                        rates[kind] += [each.decode_rate for each in answers if each.completion_tokens > 20]
            reference = median(rates.pop("free"))
            for kind, found in rates.items():
                if not found:
                    print(
                        f"constrained, {kind}: every answer ended early; ask for more rounds", file=sys.stderr
                    )
                    continue
                yield bench.figure(
                    f"constrained, {streams} streams",
                    kind,
                    "tok/s",
                    median(found),
                    reference=reference,
                    against="free",
                    goal=0.9,
                )


def settings(bench: Bench) -> Iterator[Figure]:
    """Each setting alone against the defaults: short and long contexts, prefill, and company."""
    for variant in VARIANTS:
        with ExitStack() as stack:
            servers = [
                stack.enter_context(bench.hearth(8, variant)),
                stack.enter_context(bench.hearth(8)),
            ]
            for what, jobs_of, value in (
                (
                    "prefill of 512",
                    lambda seed: jobs.distinct(bench.model, 1, WORDS_OF_512, 1, seed),
                    _prefill,
                ),
                ("decode", lambda seed: jobs.distinct(bench.model, 1, 12, 96, seed), _decode),
                ("decode behind 2k", lambda seed: _behind(bench, seed), _decode),
                ("8 streams", lambda seed: jobs.distinct(bench.model, 8, 60, 32, seed), total_rate),
            ):
                rate, reference = (
                    median(map(value, each)) for each in in_turn(servers, jobs_of, bench.rounds)
                )
                yield bench.figure(
                    variant.removeprefix("generator."),
                    what,
                    "tok/s",
                    rate,
                    reference=reference,
                    against="defaults",
                )


def _behind(bench: Bench, seed: int) -> list[dict[str, Any]]:
    """One long prompt for all rounds: only its first computing is long."""
    return [jobs.completion(bench.model, texts.words(4 * WORDS_OF_512, 77), 64 + seed)]


def _prefill(streams: Round) -> float:
    return streams[0].prompt_tokens / streams[0].first_token


def _decode(streams: Round) -> float:
    return streams[0].decode_rate
