"""Malformed GGUFs in the worker of a running server: they may cost the worker its life, never the gateway.

    python -m tests.faults.gguf_mutations --count 1000 --seed 1

Each case is a small sound model with one seeded mutation (see `mutations`). The preflight judges it; then,
whatever that said, the file takes the place of a served model as if it had been damaged after it was checked,
and the server is told to load it and, if it loads, asked. A sound model beside it must go on answering the
same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from models.errors import ModelError
from models.gguf import read_gguf
from models.store import Store
from tests import tiny_model
from tests.faults.mutations import KINDS, Mutation, mutation
from tests.serving import Served

CASE_SECONDS = 60.0
SLOTS = 3  # cases at the same time
BYSTANDER = "bystander"
LOOK_EVERY = 10  # cases between two questions to the bystander

Outcome = Literal["answered", "error answer", "refused", "died", "hung"]


def preflight(path: Path) -> str:
    """`passed`, or `refused`. Anything but a typed refusal is a finding, and raised."""
    try:
        read_gguf(path)
    except ModelError:
        return "refused"
    return "passed"


# The server


@dataclass
class Report:
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)  # by preflight and worker
    by_kind: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    health_seconds: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # what must not happen
    deaths: list[tuple[int, str, str]] = field(default_factory=list)  # number, kind, what was told


class Arena:
    """A server with a sound model and slots whose files are exchanged under it."""

    def __init__(self, home: Path, seed: int) -> None:
        self._seed = seed
        store = Store(home / "models")
        tiny_model.install(store, BYSTANDER, tiny_model.tiny_gguf(99, BYSTANDER))
        self._slots = {}
        for number in range(SLOTS):
            name = f"slot-{number}"
            sound = tiny_model.tiny_gguf(100 + number, name)
            self._slots[name] = store.blob(
                tiny_model.install(store, name, sound, origin="file").manifest.weights.sha256
            )
        settings = ("knowledge.enabled=false", "generator.slots=2", f"generator.pinned={BYSTANDER}")
        self.served = Served(home, (), (*settings, "pack=tiny", "models="))
        self.served.wait_ready()
        self._process = self.served.process.pid
        self._said = self._ask_bystander()
        self.report = Report()

    def run(self, numbers: range) -> Report:
        with ThreadPoolExecutor(SLOTS) as pool:
            jobs = [
                pool.submit(self._run_slot, slot, [n for n in numbers if n % SLOTS == index])
                for index, slot in enumerate(self._slots)
            ]
            for job in jobs:
                job.result()
        if self._ask_bystander() != self._said:
            self.report.troubles.append("the sound model does not say what it said before")
        return self.report

    def _run_slot(self, slot: str, numbers: list[int]) -> None:
        with httpx.Client(base_url=self.served.url, timeout=CASE_SECONDS, trust_env=False) as http:
            for count, number in enumerate(numbers):
                case = mutation(self._seed, number)
                begun = time.monotonic()
                verdict = self._exchange(slot, case.content)
                outcome, told = self._try(http, slot)
                self._note(case, number, verdict, outcome, told, time.monotonic() - begun)
                self._check_health(http, number)
                if count % LOOK_EVERY == 0 and self._ask_bystander() != self._said:
                    self.report.troubles.append(f"case {number}: the sound model says something else")

    def _exchange(self, slot: str, content: bytes) -> str:
        """The slot's file becomes `content`, at once and whole."""
        path = self._slots[slot]
        fresh = path.with_name(f"{slot}.fresh")
        fresh.write_bytes(content)
        verdict = preflight(fresh)
        os.replace(fresh, path)
        return verdict

    def _try(self, http: httpx.Client, slot: str) -> tuple[Outcome, str]:
        try:
            loaded = http.post(f"/admin/v1/models/{slot}/load?wait=30").json()
            if loaded["state"] != "ready":
                told = loaded["error"] or ""
                if loaded["error_code"] == "worker_lost":
                    return "died", told
                return ("refused" if loaded["error_code"] else "hung"), f"{loaded['state']}: {told}"
            body = {"model": slot, "prompt": "one two", "max_tokens": 4, "timeout": 20}
            answer = http.post("/v1/completions", json=body)
            if answer.status_code == 200:
                return "answered", ""
            error = answer.json()["error"]
            return (
                "died" if error["code"] == "worker_lost" else "error answer"
            ), f"{error['code']}: {error['message']}"
        except httpx.TimeoutException:
            return "hung", "no answer"
        finally:
            self._clear(http, slot)

    @staticmethod
    def _clear(http: httpx.Client, slot: str) -> None:
        http.post(f"/admin/v1/models/{slot}/unload?force=true")

    def _note(
        self, case: Mutation, number: int, verdict: str, outcome: Outcome, told: str, seconds: float
    ) -> None:
        self.report.outcomes[verdict, outcome] += 1
        self.report.by_kind[case.name, outcome] += 1
        self.report.seconds.append(seconds)
        if outcome == "died":
            self.report.deaths.append((number, f"{case.name}, preflight {verdict}", told))
        if outcome == "hung" or seconds > CASE_SECONDS:
            self.report.troubles.append(f"case {number} ({case.name}) took {seconds:.0f} s: {told}")
        if outcome == "error answer" and "internal_error" in told:
            self.report.troubles.append(f"case {number} ({case.name}): {told}")

    def _check_health(self, http: httpx.Client, number: int) -> None:
        begun = time.monotonic()
        status = http.get("/healthz").status_code
        self.report.health_seconds.append(time.monotonic() - begun)
        if status != 200 or self.served.process.poll() is not None:
            self.report.troubles.append(f"case {number}: the gateway answers {status}")

    def _ask_bystander(self) -> str:
        body = {"model": BYSTANDER, "prompt": "hi", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        answer = self.served.http.post("/v1/completions", json=body)
        return f"{answer.status_code} {answer.json().get('choices')}"

    def close(self) -> None:
        self.served.stop()


def run(count: int, seed: int, first: int = 0) -> Report:
    """`count` mutations from the `first` on, in a server of their own that must still end in order."""
    with tempfile.TemporaryDirectory(prefix="hearth-mutations-") as directory:
        arena = Arena(Path(directory) / "home", seed)
        try:
            report = arena.run(range(first, first + count))
            arena.close()
        finally:
            arena.served.end()
    return report


def _lines(report: Report) -> Iterator[str]:
    outcomes: tuple[Outcome, ...] = ("answered", "error answer", "refused", "died", "hung")
    yield f"{'':34}" + "".join(f"{outcome:>14}" for outcome in outcomes)
    for verdict in ("passed", "refused"):
        row = "".join(f"{report.outcomes[verdict, outcome]:>14}" for outcome in outcomes)
        yield f"{'preflight ' + verdict + '; in the worker:':34}{row}"
    for kind in KINDS:
        row = "".join(f"{report.by_kind[kind, outcome]:>14}" for outcome in outcomes)
        yield f"  {kind:32}{row}"
    for number, kind, told in report.deaths:
        yield f"died: case {number} ({kind}): {told}"
    for trouble in report.troubles:
        yield f"TROUBLE: {trouble}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(argv)
    begun = time.monotonic()
    report = run(options.count, options.seed, options.first)
    print("\n".join(_lines(report)))
    ordered = sorted(report.seconds)
    figures = {
        "cases": len(ordered),
        "seconds": round(time.monotonic() - begun, 1),
        "outcomes": {f"{a}/{b}": n for (a, b), n in sorted(report.outcomes.items())},
        "case_seconds_p50": round(ordered[len(ordered) // 2], 2),
        "case_seconds_max": round(ordered[-1], 2),
        "healthz_seconds_max": round(max(report.health_seconds), 3),
        "troubles": len(report.troubles),
    }
    print(json.dumps(figures))
    return 1 if report.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
