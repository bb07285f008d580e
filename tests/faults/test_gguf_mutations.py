"""Mutated model files: the preflight only ever refuses, and the gateway outlives every worker they kill."""

from __future__ import annotations

from pathlib import Path

from tests.faults.gguf_mutations import preflight, run
from tests.faults.mutations import KINDS, mutation

PREFLIGHTS = 12  # of each kind
CASES = len(KINDS)  # one of each kind; `make bench` runs a thousand


def test_the_preflight_refuses_in_words_or_lets_pass(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    verdicts = set()
    for number in range(PREFLIGHTS * len(KINDS)):
        path.write_bytes(mutation(7, number).content)
        verdicts.add(preflight(path))
    assert verdicts == {"passed", "refused"}


def test_a_mutation_is_the_same_each_time() -> None:
    assert [mutation(1, n) for n in range(CASES)] == [mutation(1, n) for n in range(CASES)]
    assert mutation(1, 0).content != mutation(2, 0).content


def test_mutated_models_cost_at_most_their_worker() -> None:
    report = run(CASES, seed=7)
    assert report.troubles == []
    assert len(report.seconds) == CASES
    assert max(report.health_seconds) < 5
