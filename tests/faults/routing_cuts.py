"""Cut streams by the thousand: how many characters are lost or doubled.

Run from the repository's root:

    python -m tests.faults.routing_cuts [--streams 1000] [--seed 1]

Each stream is cut at a random place, in a random way, up to three times, by services that continue a partial
answer only if it is exactly the text's beginning. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
from dataclasses import asdict, dataclass

from tests.routing.conftest import platform, request, routing, run
from tests.routing.peers import Speaker, hear, make_router
from tests.upstream.behaviour import CUTS, Behaviour, make_text
from tests.upstream.service import Service

AT_ONCE = 8


@dataclass
class Found:
    streams: int = 0
    cuts: int = 0
    continued: int = 0
    lost: int = 0  # characters
    doubled: int = 0  # characters
    wrong: int = 0  # answers that differ in any way
    errors: int = 0


async def cut_streams(streams: int, seed: int) -> Found:
    chance = random.Random(seed)
    found = Found()
    texts = [make_text(chance.randrange(10**6), chance.randrange(20, 400)) for _ in range(AT_ONCE)]
    with contextlib.ExitStack() as stack:
        lanes = [_Lane(text, stack) for text in texts]
        left = iter(range(streams))

        async def work(lane: _Lane) -> None:
            for _ in left:
                await lane.stream(chance, found)

        await asyncio.gather(*(work(lane) for lane in lanes))
        for lane in lanes:
            await lane.router.close()
    return found


class _Lane:
    """Three services and a local model that all say the same text."""

    def __init__(self, text: str, stack: contextlib.ExitStack) -> None:
        self.text = text
        self.services = [
            stack.enter_context(Service(text, continues=continues, keep=4))
            for continues in ("prefix", "prefix", "echo")
        ]
        platforms = [
            platform(f"p{place}", each, model={"quality": 90 - place, "continuation": each.continues})
            for place, each in enumerate(self.services)
        ]
        settings = routing(*platforms, breaker={"failures": 1000, "error_rate": 1.0}, retry_jitter=0.001)
        self.router = make_router(settings, Speaker(text))

    async def stream(self, chance: random.Random, found: Found) -> None:
        at, cuts = 0, 0
        for service in self.services[: chance.randint(1, 3)]:
            at_next = chance.randint(at + 1, len(self.text))
            sent = at_next if service.continues == "echo" else at_next - at
            # A stall is met by the clock, which costs time: a few are enough.
            ending = chance.choice([each for each in CUTS if each != "stall" or chance.random() < 0.2])
            service.script(Behaviour(cut_after=sent, ending=ending, dribble=chance.choice([0, 0, 5])))
            cuts += 1
            at = at_next
            if at == len(self.text):
                break
        heard = await hear(self.router, request())
        for service in self.services:
            service._script.clear()
        found.streams += 1
        found.cuts += cuts
        found.errors += heard.error is not None
        found.continued += bool(heard.route and heard.route.continuations)
        if heard.text != self.text:
            found.wrong += 1
            found.lost += max(0, len(self.text) - len(heard.text))
            found.doubled += max(0, len(heard.text) - len(self.text))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(asdict(run(cut_streams(given.streams, given.seed)))))


if __name__ == "__main__":
    main()
