"""Cut streams and reloads through a whole server: characters lost or doubled, requests failed.

Run from the repository's root:

    python -m tests.faults.routing_server [--streams 1000] [--reloads 1000] [--seed 1]

Streams: each is cut at a random place, in a random way, up to three times, by services that continue a
partial answer only if it is exactly the text's beginning. Reloads: the settings file is rewritten and taken
again and again while eight clients ask, streams and whole answers; every answer must be whole. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from tests.clients.routed import platform, services, write_settings
from tests.serving import CHAT, Served, chat_body, parse_events, text_of
from tests.upstream.behaviour import CUTS, Behaviour, make_text
from tests.upstream.service import Service

CLIENTS = 8


@dataclass
class Streams:
    streams: int = 0
    cuts: int = 0
    continued: int = 0
    lost: int = 0  # characters
    doubled: int = 0  # characters
    wrong: int = 0  # answers that differ in any way
    errors: int = 0


@dataclass
class Reloads:
    reloads: int = 0
    refused: int = 0  # bad texts among them, which must be refused
    requests: int = 0
    failed: int = 0


def cut_streams(directory: Path, streams: int, seed: int) -> Streams:
    chance = random.Random(seed)
    text = make_text(seed, 300)
    found = Streams()
    with services(text, text) as (first, second), services(text, continues="echo") as (third,):
        chain = [first, second, third]
        home = directory / "streams"
        write_settings(
            home,
            *(
                platform(f"p{n}", each.url, 90 - n, model={"continuation": each.continues})
                for n, each in enumerate(chain)
            ),
            platform("last", first.url, 50),
            calls=8,
        )
        served = Served(home, (CHAT,))
        try:
            served.wait_ready()
            for _ in range(streams):
                _one(served, chain, text, chance, found)
            served.stop()
        finally:
            served.end()
    return found


def _one(served: Served, chain: list[Service], text: str, chance: random.Random, found: Streams) -> None:
    at = 0
    for service in chain[: chance.randint(1, 3)]:
        upto = chance.randint(at + 1, len(text))
        # A stall is met by the clock, which costs time: a few are enough.
        ending = chance.choice([each for each in CUTS if each != "stall" or chance.random() < 0.1])
        sent = upto if service.continues == "echo" else upto - at
        service.script(Behaviour(cut_after=sent, ending=ending, dribble=chance.choice([0, 0, 5])))
        found.cuts += 1
        at = upto
        if at == len(text):
            break
    body = chat_body(stream=True, stream_options={"include_usage": True}) | {"model": "auto"}
    response = served.http.post("/v1/chat/completions", json=body)
    for service in chain:
        service._script.clear()
    events, is_done = parse_events(response.read())
    found.streams += 1
    if response.status_code != 200 or not is_done:
        found.errors += 1
        return
    said = text_of(event for event in events if event["choices"])
    found.continued += bool(events[-1]["usage"]["hearth"]["continuations"])
    if said != text:
        found.wrong += 1
        found.lost += max(0, len(text) - len(said))
        found.doubled += max(0, len(said) - len(text))


def reload_under_load(directory: Path, reloads: int) -> Reloads:
    text = make_text(3, 120)
    found = Reloads()
    lock = threading.Lock()
    over = threading.Event()
    home = directory / "reloads"
    with services(text, text) as (one, two):

        def settings(number: int) -> None:
            """Two versions in turn: who is best, what it costs, and an alias that moves."""
            flip = number % 2
            write_settings(
                home,
                platform("one", one.url, 90 - 20 * flip, model={"price_in": float(number % 7)}),
                platform("two", two.url, 80),
                aliases={"moving": ["one", "two"] if flip else ["two", "one"]},
            )

        settings(0)
        served = Served(home, (CHAT,))

        def client(number: int) -> None:
            with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as http:
                while not over.is_set():
                    is_stream = (number + found.requests) % 2 == 0
                    model = ("auto", "moving", "one", "two")[number % 4]
                    is_good = _is_whole(http, chat_body(stream=is_stream) | {"model": model}, text)
                    with lock:
                        found.requests += 1
                        found.failed += not is_good

        try:
            served.wait_ready()
            clients = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
            for each in clients:
                each.start()
            for number in range(1, reloads + 1):
                if number % 50 == 0:
                    (home / "hearth.toml").write_text("[routing]\npolicy = 'nonsense'\n")
                    found.refused += served.http.post("/admin/v1/config/reload").status_code == 400
                settings(number)
                while (answer := served.http.post("/admin/v1/config/reload")).status_code != 200:
                    assert answer.status_code == 400, answer.text  # the watcher met the bad text meanwhile
                    time.sleep(0.01)
                found.reloads += 1
            over.set()
            for each in clients:
                each.join()
            served.stop()
        finally:
            over.set()
            served.end()
    return found


def _is_whole(http: httpx.Client, body: dict[str, object], text: str) -> bool:
    try:
        response = http.post("/v1/chat/completions", json=body)
        if response.status_code != 200:
            return False
        if not body["stream"]:
            said: str = response.json()["choices"][0]["message"]["content"]
            return said == text
        events, is_done = parse_events(response.read())
        return is_done and text_of(events) == text
    except httpx.TransportError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        reloads = reload_under_load(Path(name), given.reloads)
        print(f"reloads under load: {asdict(reloads)}", flush=True)
        streams = cut_streams(Path(name), given.streams, given.seed)
    print(json.dumps({"reloads": asdict(reloads), "streams": asdict(streams)}))


if __name__ == "__main__":
    main()
