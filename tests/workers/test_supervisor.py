"""The supervisor with small real processes that misbehave in ways a model's process could."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.activity import Activities, Activity
from appliance.errors import Draining, ModelLoading, SetupError, Unavailable, WorkerLost, pack
from appliance.launch import GeneratorOrder
from appliance.records import Detokenize, Text
from appliance.workers.handles import GeneratorHandle
from appliance.workers.supervisor import State, Supervisor

HEAD = """
import os, pathlib, socket, sys, time
from appliance import errors
from appliance.records import *
from appliance.workers.frames import HEADER, WorkerChannel
connection = socket.socket(fileno=int(sys.argv[3]))
channel = WorkerChannel(connection)
order = channel.read_order()
births = pathlib.Path(order.weights)
life = len(births.read_text()) if births.exists() else 0
births.write_text("x" * (life + 1))
"""
ANSWERS = """
channel.send(Ready(models=()))
for command in channel.commands():
    if isinstance(command, Stop):
        sys.exit(0)
    if isinstance(command, Detokenize):
        channel.send(Text(id=command.id, text=f"life {life}"))
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Callable[..., Any]:
    """Runs `use(supervisor)` against a worker whose body is `script`, and stops it."""

    def run(script: str, use: Callable[[Supervisor], Coroutine[Any, Any, Any]]) -> Any:
        program = tmp_path / "worker.py"
        program.write_text(HEAD + textwrap.dedent(script))
        order = GeneratorOrder(name="m", weights=str(tmp_path / "births"))

        async def live() -> Any:
            supervisor = Supervisor("generator", order, [sys.executable, str(program)])
            supervisor.start()
            try:
                return await asyncio.wait_for(use(supervisor), 30)
            finally:
                await supervisor.stop(5)
                assert supervisor.state is State.STOPPED
                assert supervisor.pid is None

        return asyncio.run(live())

    return run


class OneWorker:
    """Lends the worker it has, ready."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @asynccontextmanager
    async def lend(
        self, name: str, activity: Activity, keep_alive: float | None = None
    ) -> AsyncIterator[Supervisor]:
        await self._supervisor.wait_ready(20)
        yield self._supervisor


async def ask(supervisor: Supervisor) -> str:
    return await GeneratorHandle("m", OneWorker(supervisor), Activities()).detokenize((1,))


def test_an_answer_comes_back(supervise: Callable[..., Any]) -> None:
    assert supervise(ANSWERS, ask) == "life 0"


@pytest.mark.parametrize(
    "misbehaviour",
    [
        "sys.exit(3)",
        "os.abort()",
        'connection.sendall(b"\\x00\\x00\\x00\\x04oops"); time.sleep(60)',
        "connection.sendall(HEADER.pack(2**32 - 1)); time.sleep(60)",
        'connection.sendall(b"\\x00\\x00"); connection.shutdown(socket.SHUT_RDWR); time.sleep(60)',
    ],
    ids=["exits", "aborts", "sends no event", "announces too long a frame", "hangs up and stays"],
)
def test_a_worker_that_misbehaves_is_started_again(supervise: Callable[..., Any], misbehaviour: str) -> None:
    async def use(supervisor: Supervisor) -> tuple[str, int]:
        return await ask(supervisor), supervisor.restarts

    assert supervise(f"if life == 0:\n    {misbehaviour}\n{ANSWERS}", use) == ("life 1", 1)


def test_a_worker_that_tells_why_it_cannot_serve_is_quoted(supervise: Callable[..., Any]) -> None:
    reason = pack(SetupError("the model is damaged"))

    async def use(supervisor: Supervisor) -> str:
        with pytest.raises(Unavailable) as caught:
            await ask(supervisor)
        assert supervisor.last_error is not None
        return caught.value.message

    script = f"channel.send(Failed(id=0, error={reason!r}))"
    assert supervise(script, use) == "the model is damaged"


def test_a_model_that_kills_its_worker_again_and_again_is_told(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> str:
        with pytest.raises(Unavailable) as caught:
            await ask(supervisor)
        return caught.value.message

    told = supervise("os.abort()", use)
    assert "m cannot be loaded" in told
    assert "signal 6" in told


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        ("channel.send(Text(id=command.id, text=''))", ["0.1 s", "0.1 s", "0.1 s", "0.1 s"]),
        ("pass", ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]),
    ],
    ids=["answers before it dies", "dies of every request"],
)
def test_only_a_worker_that_answers_nothing_is_started_ever_later(
    supervise: Callable[..., Any], caplog: pytest.LogCaptureFixture, answer: str, waits: list[str]
) -> None:
    async def use(supervisor: Supervisor) -> list[str]:
        while supervisor.restarts < len(waits):
            with contextlib.suppress(WorkerLost):  # one that comes while the last worker dies
                await ask(supervisor)
        return [record.getMessage().rpartition(" in ")[2] for record in caplog.records]

    script = f"""
channel.send(Ready(models=()))
for command in channel.commands():
    if isinstance(command, Stop):
        sys.exit(0)
    {answer}
    os.abort()
"""
    with caplog.at_level("WARNING", "hearth.workers"):
        assert supervise(script, use) == waits


def test_a_worker_that_hangs_while_it_loads_is_ended(
    supervise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.workers.supervisor.LOAD_SILENCE", 1.0)

    async def use(supervisor: Supervisor) -> str:
        with pytest.raises(Unavailable) as caught:
            await ask(supervisor)
        return caught.value.message

    assert "not a word" in supervise("time.sleep(60)", use)


def test_requests_under_way_are_told_when_the_next_life_cannot_serve(supervise: Callable[..., Any]) -> None:
    """A request that waits for a new worker must not wait for ever."""

    async def use(supervisor: Supervisor) -> str:
        await supervisor.wait_ready(20)
        _, stream = supervisor.open(lambda id: Detokenize(id=id, tokens=()))
        assert supervisor.pid is not None
        supervisor._pending[1].sends_left = 1  # as a request that may be sent again
        with pytest.raises(Unavailable) as caught:
            await stream.take()
        return caught.value.message

    reason = pack(SetupError("the file is gone"))
    script = f"""
if life > 0:
    channel.send(Failed(id=0, error={reason!r}))
    sys.exit(1)
channel.send(Ready(models=()))
next(channel.commands())
"""
    assert supervise(script, use) == "the file is gone"


def test_a_request_that_is_not_sent_twice_is_lost_with_its_worker(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> str:
        await supervisor.wait_ready(20)
        with pytest.raises(WorkerLost):
            await ask(supervisor)
        return await ask(supervisor)

    script = f"""
if life == 0:
    channel.send(Ready(models=()))
    next(channel.commands())
    os.abort()
{ANSWERS}
"""
    assert supervise(script, use) == "life 1"


def test_a_request_that_was_cancelled_gets_nothing_more(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> None:
        await supervisor.wait_ready(20)
        id, stream = supervisor.open(lambda id: Detokenize(id=id, tokens=()))
        supervisor.close(id)
        assert await ask(supervisor) == "life 0"
        assert supervisor.outstanding == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.take(), 0.05)

    supervise(ANSWERS, use)


def test_who_waits_too_long_for_a_worker_is_told_how_far_it_is(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> None:
        with pytest.raises(ModelLoading, match="40% done"):
            await supervisor.wait_ready(3)

    supervise('channel.send(Loading(model="m", fraction=0.4))\nlist(channel.commands())', use)


def test_who_waits_for_a_worker_that_is_stopped_is_told_at_once(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> None:
        waiting = asyncio.ensure_future(supervisor.wait_ready(60))
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(supervisor.stop(0.2))
        with pytest.raises(Draining):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(Draining):
            supervisor.open(lambda id: Detokenize(id=id, tokens=()))
        await stopping

    supervise("list(channel.commands())", use)


def test_a_worker_that_does_not_stop_is_ended(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> None:
        await supervisor.wait_ready(20)
        await supervisor.stop(0.2)

    supervise("channel.send(Ready(models=()))\ntime.sleep(60)", use)


def test_a_program_that_is_not_there_is_told() -> None:
    async def use() -> str:
        supervisor = Supervisor("generator", GeneratorOrder(name="m", weights="w"), ["/no/such/program"])
        supervisor.start()
        try:
            with pytest.raises(Unavailable) as caught:
                await supervisor.wait_ready(20)
        finally:
            await supervisor.stop(1)
        return caught.value.message

    assert "cannot be started" in asyncio.run(use())


def test_events_reach_their_own_request_only(supervise: Callable[..., Any]) -> None:
    async def use(supervisor: Supervisor) -> None:
        await supervisor.wait_ready(20)
        opened = [supervisor.open(lambda id: Detokenize(id=id, tokens=())) for _ in range(20)]
        for id, stream in reversed(opened):
            (reply,) = await stream.take()
            assert isinstance(reply, Text)
            assert reply.id == id
        assert supervisor.outstanding == 0

    supervise(ANSWERS, use)
