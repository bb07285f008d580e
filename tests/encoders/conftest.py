"""The real encoder models, out of the model store, and a real encoder process to talk to.

A model that is not in the store skips its tests. `HEARTH_TEST_MODELS` names another store than the default.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance import paths
from appliance.encoders.embed import Embedder
from appliance.encoders.rerank import Reranker
from appliance.launch import EncoderModel, EncoderOrder
from appliance.records import Command, Event, Failed, Loading, Ready
from appliance.workers.frames import HEADER, encode, event_decoder

MINILM = EncoderModel(
    name="minilm",
    role="embed",
    weights="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    tokenizer="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    max_tokens=256,
    dimensions=384,
    languages=("en",),
)
E5 = EncoderModel(
    name="e5",
    role="embed",
    weights="658f6f8e2650f79469571967eabc27e56f3a19427af209da3a752268a133b8a8",
    tokenizer="0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
    dimensions=384,
    pad_token=1,
    query_prefix="query: ",
    passage_prefix="passage: ",
)
RERANKER = EncoderModel(
    name="reranker",
    role="rerank",
    weights="1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
    tokenizer="cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
    languages=("en",),
)

WORKER = """
import socket, sys
from appliance.encoder import run
sys.exit(run(socket.socket(fileno=int(sys.argv[1]))))
"""


def find(model: EncoderModel) -> EncoderModel | None:
    """The model with its hashes replaced by the paths of its blobs; None when the store lacks one."""
    weights, tokenizer = (
        store() / "blobs" / f"sha256-{digest}" for digest in (model.weights, model.tokenizer)
    )
    if not (weights.is_file() and tokenizer.is_file()):
        return None
    return msgspec.structs.replace(model, weights=str(weights), tokenizer=str(tokenizer))


def store() -> Path:
    return Path(os.environ.get("HEARTH_TEST_MODELS") or paths.models(paths.home()))


def find_or_skip(model: EncoderModel) -> EncoderModel:
    found = find(model)
    if found is None:
        pytest.skip(f"{model.name} is not in the model store {store()}; `hearth models pull` gets it")
    return found


@pytest.fixture(scope="session")
def minilm_model() -> EncoderModel:
    return find_or_skip(MINILM)


@pytest.fixture(scope="session")
def e5_model() -> EncoderModel:
    return find_or_skip(E5)


@pytest.fixture(scope="session")
def reranker_model() -> EncoderModel:
    return find_or_skip(RERANKER)


@pytest.fixture(scope="session")
def minilm(minilm_model: EncoderModel) -> Embedder:
    return Embedder(minilm_model, threads=2)


@pytest.fixture(scope="session")
def e5(e5_model: EncoderModel) -> Embedder:
    return Embedder(e5_model, threads=2)


@pytest.fixture(scope="session")
def reranker(reranker_model: EncoderModel) -> Reranker:
    return Reranker(reranker_model, threads=2)


class EncoderProcess:
    """The gateway's end of a real encoder process."""

    def __init__(self, order: EncoderOrder) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(descriptor)], pass_fds=[descriptor]
            )
        ours.settimeout(60)
        self.socket = ours
        self._stream = ours.makefile("rb")
        ours.sendall(encode(order))

    def send(self, *commands: Command) -> None:
        self.socket.sendall(b"".join(encode(command) for command in commands))

    def receive(self) -> Event:
        (length,) = HEADER.unpack(self._stream.read(HEADER.size))
        return event_decoder.decode(self._stream.read(length))

    def wait_ready(self) -> Ready | Failed:
        while isinstance(event := self.receive(), Loading):
            pass
        assert isinstance(event, (Ready, Failed))
        return event

    def at_end(self) -> bool:
        return self._stream.read(1) == b""

    def hang_up(self) -> None:
        self._stream.close()
        self.socket.close()

    def close(self) -> None:
        self.hang_up()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def start_encoder() -> Iterator[Callable[[EncoderOrder], EncoderProcess]]:
    """Starts encoder processes that end with the test."""
    started: list[EncoderProcess] = []

    def start(order: EncoderOrder) -> EncoderProcess:
        started.append(EncoderProcess(order))
        return started[-1]

    yield start
    for encoder in started:
        encoder.close()
