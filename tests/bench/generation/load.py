"""What the client's notes say: rates, waits and gaps of one round."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLIENT = (sys.executable, "-m", "tests.bench.generation.client")
MOST_SECONDS = 320


@dataclass(frozen=True)
class Stream:
    """One answer: when it was asked for, when its pieces came (seconds), and how many tokens it cost."""

    sent: float
    arrivals: Sequence[float]
    ended: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @property
    def first_token(self) -> float:
        return self.arrivals[0] - self.sent

    @property
    def decode_rate(self) -> float:
        """Tokens per second behind the first one."""
        return (self.completion_tokens - 1) / (self.arrivals[-1] - self.arrivals[0])

    @property
    def longest_gap(self) -> float:
        return max(
            (later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)),
            default=0.0,
        )

    def longest_gap_between(self, begin: float, end: float) -> float:
        """The longest silence that touches the time from `begin` to `end`."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return max(
            (later - earlier for earlier, later in pairs if later > begin and earlier < end), default=0.0
        )


def ask(url: str, jobs: Sequence[dict[str, Any]]) -> list[Stream]:
    """Sends the jobs, each after its own delay, and waits for all answers."""
    order = json.dumps({"url": url, "jobs": list(jobs)})
    done = subprocess.run(
        CLIENT, input=order, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return [_stream(answer) for answer in json.loads(done.stdout)]


def _stream(answer: dict[str, Any]) -> Stream:
    usage = answer["usage"]
    return Stream(
        answer["sent"],
        answer["arrivals"],
        answer["ended"],
        usage["prompt_tokens"],
        usage["completion_tokens"],
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )


def total_rate(streams: Sequence[Stream]) -> float:
    """Generated tokens per second, from the first request to the last answer's end."""
    begun, ended = min(stream.sent for stream in streams), max(stream.ended for stream in streams)
    return sum(stream.completion_tokens for stream in streams) / (ended - begun)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, between neighbours in proportion."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, int(share * 1000) - 1)]
