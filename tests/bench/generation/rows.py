"""The rows against the peers: what both servers are asked, and which figures come out.

Each row starts its servers, lets them answer in turn (A B A B …) and takes medians over the rounds. Every
round asks something new, so that no prompt cache helps where none is meant to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.generation import jobs, peer
from tests.bench.generation.contenders import Contender, Hearth, LlamaServer, Setup
from tests.bench.generation.figures import Figure, median
from tests.bench.generation.load import Stream, ask, percentile, total_rate

WORDS_OF_512 = 480  # words of `texts` that make about 512 tokens
CELLS = 8192
LONG_PROMPT_AT = 1.0  # seconds after the running streams were asked for


@dataclass(frozen=True)
class Bench:
    """One model on this machine, and how often to repeat."""

    model: str
    weights: Path
    threads: int
    rounds: int
    settings: tuple[str, ...] = ()
    peer_options: tuple[str, ...] = ()

    def setup(self, slots: int, cells: int = CELLS) -> Setup:
        return Setup(self.model, self.weights, self.threads, slots, cells)

    def hearth(self, slots: int, *settings: str, cells: int = CELLS, home: Path | None = None) -> Hearth:
        return Hearth(self.setup(slots, cells), (*self.settings, *settings), home)

    def llama_server(self, slots: int, *options: str, cells: int = CELLS) -> LlamaServer:
        return LlamaServer(self.setup(slots, cells), (*options, *self.peer_options))

    def figure(self, row: str, what: str, unit: str, measured: float, **reference: Any) -> Figure:
        return Figure(self.model, row, what, unit, measured, **reference)


Round = list[Stream]
Ask = Callable[[int], Sequence[dict[str, Any]]]
Pause = Callable[[Round], None]  # between rounds, when nobody is asked; it gets the first contender's


def in_turn(
    contenders: Sequence[Contender], jobs_of: Ask, rounds: int, pause: Pause | None = None
) -> list[list[Round]]:
    """The rounds of each contender. Both get the same jobs, and one warming job before."""
    found: list[list[Round]] = [[] for _ in contenders]
    for contender in contenders:
        ask(contender.url, jobs_of(0)[:1])
    for number in range(1, rounds + 1):
        for place, contender in enumerate(contenders):
            found[place].append(ask(contender.url, jobs_of(number)))
        if pause is not None:
            pause(found[0][-1])
    return found


def both(
    bench: Bench,
    slots: int,
    jobs_of: Ask,
    rounds: int,
    options: Sequence[str] = (),
    pause: Pause | None = None,
) -> tuple[list[Round], list[Round]]:
    """The rounds of Hearth and of llama-server."""
    with ExitStack() as stack:
        servers: list[Contender] = [stack.enter_context(bench.hearth(slots))]
        servers.append(stack.enter_context(bench.llama_server(slots, *options)))
        ours, theirs = in_turn(servers, jobs_of, rounds, pause)
    return ours, theirs


def beside_limit(
    bench: Bench, slots: int, jobs_of: Ask, rounds: int, limit: Callable[[Round], float]
) -> tuple[list[Round], list[Round], float]:
    """The rounds of both, and the median of what the bare library does, measured after each of them: the
    machine is a few per cent faster in one minute than in the next."""
    limits: list[float] = []
    ours, theirs = both(bench, slots, jobs_of, rounds, pause=lambda last: limits.append(limit(last)))
    return ours, theirs, median(limits)


def one_stream(bench: Bench) -> Iterator[Figure]:
    """Decoding of one stream."""

    def jobs_of(seed: int) -> list[dict[str, Any]]:
        return jobs.distinct(bench.model, 1, 12, 128, seed)

    def alone(_: Round) -> float:
        return peer.bench(bench.weights, bench.threads, tokens=128)

    ours, theirs, limit = beside_limit(bench, 1, jobs_of, bench.rounds + 2, alone)
    rate, rival = (median(each[0].decode_rate for each in found) for found in (ours, theirs))
    yield bench.figure(
        "one stream", "decode", "tok/s", rate, reference=limit, against="llama-bench", goal=0.97
    )
    yield bench.figure(
        "one stream", "decode", "tok/s", rate, reference=rival, against="llama-server", goal=1.0
    )


def many_streams(bench: Bench, streams: int) -> Iterator[Figure]:
    """Streams with distinct prompts that arrive together."""
    row = f"{streams} streams"

    def jobs_of(seed: int) -> list[dict[str, Any]]:
        return jobs.distinct(bench.model, streams, 60, 64, seed)

    def bare(last: Round) -> float:
        prompt = round(median(stream.prompt_tokens for stream in last))
        found = peer.batched_bench(bench.weights, bench.threads, prompt=prompt, tokens=64, streams=streams)
        return streams * 64 / float(found["t"])

    ours, theirs, limit = beside_limit(bench, streams, jobs_of, bench.rounds, bare)
    rate, rival = (median(map(total_rate, found)) for found in (ours, theirs))
    yield bench.figure(row, "total", "tok/s", rate, reference=limit, against="llama-batched-bench", goal=0.97)
    yield bench.figure(row, "total", "tok/s", rate, reference=rival, against="llama-server", goal=1.0)
    first, first_rival = (
        percentile([stream.first_token for each in found for stream in each], 0.99)
        for found in (ours, theirs)
    )
    yield bench.figure(
        row, "first token p99", "s", first, reference=first_rival, against="llama-server", at_most=True
    )


def prefill(bench: Bench) -> Iterator[Figure]:
    """A prompt of about 512 tokens, from the request to the first token."""

    def jobs_of(seed: int) -> list[dict[str, Any]]:
        return jobs.distinct(bench.model, 1, WORDS_OF_512, 1, seed)

    def alone(_: Round) -> float:
        return peer.bench(bench.weights, bench.threads, prompt=512)

    ours, theirs, limit = beside_limit(bench, 1, jobs_of, bench.rounds + 2, alone)
    rate, rival = (
        median(each[0].prompt_tokens / each[0].first_token for each in found) for found in (ours, theirs)
    )
    yield bench.figure(
        "prefill of 512", "rate", "tok/s", rate, reference=limit, against="llama-bench", goal=0.97
    )
    yield bench.figure("prefill of 512", "rate", "tok/s", rate, reference=rival, against="llama-server")


def shared_prompt(bench: Bench) -> Iterator[Figure]:
    """8 streams under one new system prompt of 400 words that arrive together."""
    row = "8 streams, one system prompt"
    ours, theirs = both(bench, 8, lambda seed: jobs.sharing(bench.model, 8, 400, 64, seed), bench.rounds)
    rate, rival = (median(map(total_rate, found)) for found in (ours, theirs))
    yield bench.figure(row, "total", "tok/s", rate, reference=rival, against="llama-server", goal=1.4)
    for what, value, goal in (
        ("first token p99", lambda stream: stream.first_token, 0.25),
        ("longest gap p99", lambda stream: stream.longest_gap, 0.1),
    ):
        mine, their = (
            percentile([value(stream) for each in found for stream in each], 0.99) for found in (ours, theirs)
        )
        yield bench.figure(
            row, what, "s", mine, reference=their, against="llama-server", goal=goal, at_most=True
        )


def long_prompt(bench: Bench) -> Iterator[Figure]:
    """7 streams run when a prompt of about 2,000 tokens arrives."""

    def jobs_of(seed: int) -> list[dict[str, Any]]:
        running = jobs.distinct(bench.model, 7, 12, 256, seed)
        return [*running, *_long(bench, seed)]

    # By default each of its slots has an equal part of the cache, too small for this prompt.
    ours, theirs = both(bench, 8, jobs_of, bench.rounds, ["--kv-unified"])
    row = "a long prompt arrives"

    def gap(streams: Round) -> float:
        *running, long = streams
        return max(each.longest_gap_between(long.sent, long.arrivals[0]) for each in running)

    mine, their = (median(map(gap, found)) for found in (ours, theirs))
    yield bench.figure(
        row, "longest gap", "s", mine, reference=their, against="llama-server", goal=0.25, at_most=True
    )
    first, first_rival = (median(each[-1].first_token for each in found) for found in (ours, theirs))
    yield bench.figure(
        row,
        "its own first token",
        "s",
        first,
        reference=first_rival,
        against="llama-server",
        at_most=True,
    )
    rate, rival = (median(map(total_rate, found)) for found in (ours, theirs))
    yield bench.figure(row, "total", "tok/s", rate, reference=rival, against="llama-server")


def _long(bench: Bench, seed: int) -> list[dict[str, Any]]:
    [job] = jobs.distinct(bench.model, 1, 4 * WORDS_OF_512, 8, 100 + seed)
    return [job | {"delay": LONG_PROMPT_AT}]
