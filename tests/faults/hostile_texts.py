"""Hostile JSON and naughty strings through chat, names, files and search, with a count.

    python -m tests.faults.hostile_texts [--texts N] [--bodies N] [--seed N]

Texts: the list of tests/api/test_hostile.py, then combinations of odd characters made from the seed. Each
goes through chat, embeddings, tokens and back, a conversation, a base's name and a search in it. Bodies:
broken and odd JSON, and valid bodies with bytes changed, to every path that reads JSON. Counts answers of 5xx
that are no refusal by design, connections without an answer, and texts that came back otherwise than they
went. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.api.test_hostile import BROKEN, NAUGHTY, ODD, READS_JSON
from tests.serving import CHAT, EMBED, Served

BY_DESIGN = (501, 503, 507)
ALPHABETS = (
    "abc ABC 019 _-./\\'\"`$%&<>{}[]()|;:#",
    "\x00\x01\x07\x08\x1b\x7f\t\r\n\x85\u2028\u2029\ufeff\ufffe\uffff",
    "\u0300\u0301\u0316\u0489\u20dd\u1ab0\ufe0f\u200d\u200b\u200f\u202e\u2066\u2069",
    "אבגدهوزحطي٠١٢",
    "田中表鷗漢字かなカナ한국어ไทยहिन्दी",
    "😀👩‍👧🏿🏴󠁧󠁢󠁥󠁮󠁧󠁿🇨🇭\U0010ffff\U00010000\U000e0001",
)
SPELLS = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "[INST]",
    "<tool_call>",
    "../",
    "%00",
    "{{7*7}}",
    "\ud83d\ude00",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--bodies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = run(Path(directory) / "home", options.texts, options.bodies, options.seed)
    print(json.dumps(found, ensure_ascii=False))
    return int(any(found[name] for name in ("bad_answers", "lost", "changed")))


def run(home: Path, texts: int, bodies: int, seed: int) -> dict[str, Any]:
    served = Served(home, (CHAT, EMBED), ("generator.context_length=512",))
    try:
        served.wait_ready()
        trial = Trial(served.http)
        source = random.Random(seed)
        for text in naughty(source, texts):
            trial.say(text)
        for path, body in hostile(source, bodies):
            trial.post(path, content=body, headers={"content-type": "application/json"})
        assert served.process.poll() is None, f"the server has ended:\n{served.log[-2000:]}"
        assert served.is_ready()
        return trial.found()
    finally:
        served.end()


def naughty(source: random.Random, count: int) -> Iterator[str]:
    yield from NAUGHTY[:count]
    for _ in range(count - len(NAUGHTY)):
        pieces: list[str] = []
        for _ in range(source.randrange(1, 6)):
            alphabet = source.choice(ALPHABETS)
            pieces.append("".join(source.choices(alphabet, k=source.randrange(1, 24))))
            pieces.append(source.choice(SPELLS) if source.random() < 0.2 else "")
        yield "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def hostile(source: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    valid = [
        {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
        {"model": CHAT, "input": "x", "max_output_tokens": 16},
        {"model": EMBED, "input": ["a", "b"]},
        {"name": "a", "file_ids": [], "metadata": {"a": "b"}},
    ]
    for _ in range(count):
        path, kind = source.choice(READS_JSON), source.random()
        if kind < 0.3:
            yield path, source.choice([*BROKEN, *ODD])
            continue
        raw = bytearray(json.dumps(source.choice(valid)).encode())
        for _ in range(source.randrange(1, 5)):
            place = source.randrange(len(raw))
            change = source.randrange(4)
            if change == 0:
                raw[place] = source.randrange(256)
            elif change == 1:
                del raw[place : place + source.randrange(1, 8)]
            elif change == 2:
                raw[place:place] = source.choice(
                    (b"null", b"{}", b"[]", b"-1", b"1e999", b'"', b"\\u0000", b"\xf0")
                )
            else:
                raw += raw[place:]
            raw = raw or bytearray(b"x")
        yield path, bytes(raw)


class Trial:
    """One run's requests, and what was wrong with their answers."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._requests = 0
        self._texts = 0
        self._bad: Counter[str] = Counter()
        self._lost: list[str] = []
        self._changed: list[str] = []

    def post(self, path: str, **fields: Any) -> Any:
        """The answer's JSON, where there is one."""
        return self._asked("POST", path, **fields)

    def say(self, text: str) -> None:
        self._texts += 1
        self.post(
            "/v1/chat/completions",
            json={"model": CHAT, "messages": [{"role": "user", "content": text}], "max_tokens": 1},
        )
        self.post("/v1/embeddings", json={"model": EMBED, "input": text or "x"})
        tokens = self.post("/tokenize", json={"content": text})
        if "tokens" in tokens:
            self._compare(
                "tokens", text, self.post("/detokenize", json={"tokens": tokens["tokens"]}).get("content")
            )
        item = {"type": "message", "role": "user", "content": text}
        held = self.post("/v1/conversations", json={"items": [item]})
        if "id" in held:
            listed = self._asked("GET", f"/v1/conversations/{held['id']}/items")
            self._compare("conversation", text, listed["data"][0]["content"][0]["text"])
        base = self.post("/v1/vector_stores", json={"name": text[:256], "embedder": EMBED})
        if "id" in base:
            self._compare("name", text[:256], base["name"])
            self.post(f"/v1/vector_stores/{base['id']}/search", json={"query": text or "x"})
            self._asked("DELETE", f"/v1/vector_stores/{base['id']}")
        for path in ("/v1/models", "/v1/responses", "/v1/files"):
            self._asked("GET", f"{path}/{quote(text[:64], safe='')}")

    def found(self) -> dict[str, Any]:
        return {
            "texts": self._texts,
            "requests": self._requests,
            "bad_answers": dict(self._bad),
            "lost": self._lost[:20],
            "changed": self._changed[:20],
        }

    def _asked(self, method: str, path: str, **fields: Any) -> Any:
        self._requests += 1
        try:
            response = self._http.request(method, path, **fields)
        except httpx.HTTPError as error:
            self._lost.append(f"{method} {path[:80]}: {error!r}")
            return {}
        if response.status_code >= 500 and response.status_code not in BY_DESIGN:
            self._bad[f"{method} {path.split('?')[0][:60]} {response.status_code}"] += 1
        return (
            response.json() if response.headers.get("content-type", "").startswith("application/json") else {}
        )

    def _compare(self, where: str, sent: str, received: Any) -> None:
        if sent != received:
            self._changed.append(f"{where}: {sent!r} became {received!r}"[:300])


if __name__ == "__main__":
    sys.exit(main())
