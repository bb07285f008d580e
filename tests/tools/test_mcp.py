"""Our client against servers made with the protocol's own package, as a program and behind an address."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appliance import paths
from appliance.config.tools import McpServer
from appliance.config.tools import Tools as Settings
from appliance.errors import ConfigError, Forbidden, InvalidValue
from appliance.security.egress import EgressGuard
from appliance.tools.mcp.stdio import Stdio
from appliance.tools.service import Called, CallRecord, Tools
from appliance.tools.tool import ToolFact, ToolFailure

PEER = str(Path(__file__).with_name("mcp_peer.py"))
STDIO = McpServer(name="peer", command=(sys.executable, PEER, "stdio"), seconds=60)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, PEER, "http", str(port)], stderr=subprocess.DEVNULL)
    try:
        ends_at = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < ends_at
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


class Used:
    """The room with one server, and what it told the audit."""

    def __init__(self, server: McpServer, output_bytes: int = 4096) -> None:
        self.records: list[CallRecord] = []
        settings = Settings(servers=(server,), enabled=("peer",), output_bytes=output_bytes)
        self.tools = Tools(settings, EgressGuard(is_offline=True).check, self.records.append)

    async def __aenter__(self) -> Used:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tools.close()

    async def list(self) -> tuple[ToolFact, ...]:
        return await self.tools.offered("peer", ("peer",), "tools[0]")

    async def call(self, tool: str, arguments: str = "{}") -> Called:
        return await self.tools.call("somebody", "peer", tool, arguments)


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> McpServer:
    if request.param == "stdio":
        return STDIO
    return McpServer(name="peer", url=request.getfixturevalue("address"), seconds=60)


def test_its_tools_are_listed_and_called(server: McpServer) -> None:
    async def run() -> None:
        async with Used(server) as used:
            facts = {fact.name: fact for fact in await used.list()}
            assert facts["add"].description == "Adds two numbers."
            assert set(facts["add"].parameters["properties"]) == {"a", "b"}
            assert (await used.call("add", '{"a": 2, "b": 40}')).text == "42"
            failed = await used.call("fail")
            assert failed.failure is not None
            assert failed.failure.kind == "execution"
            cut = await used.call("long", '{"count": 10000}')
            assert cut.is_cut
            assert cut.text.startswith("x" * 4096 + "\n[")
            for tool, arguments in (("add", '{"a": "two"}'), ("nothing", "{}"), ("add", "[1]"), ("add", "{")):
                assert (await used.call(tool, arguments)).failure is not None
            assert [(each.tool, each.outcome) for each in used.records[:3]] == [
                ("add", "ok"),
                ("fail", "execution"),
                ("long", "ok"),
            ]
            assert used.records[0].user == "somebody"

    asyncio.run(run())


def test_many_calls_at_once_get_their_own_answers(server: McpServer) -> None:
    async def run() -> None:
        async with Used(server) as used:
            answers = await asyncio.gather(*(used.call("add", f'{{"a": {n}, "b": 1}}') for n in range(50)))
            assert [answer.text for answer in answers] == [str(n + 1) for n in range(50)]

    asyncio.run(run())


def test_a_slow_tool_is_left_and_the_next_call_works() -> None:
    async def run() -> None:
        hasty = McpServer(name="peer", command=STDIO.command, seconds=2)
        async with Used(hasty) as used:
            await used.list()
            late = await used.call("slow", '{"seconds": 4}')
            assert late.failure is not None
            assert used.records[-1].outcome == "timeout"

    asyncio.run(run())


def test_a_program_that_ends_is_started_again_by_the_next_call() -> None:
    async def run() -> None:
        async with Used(STDIO) as used:
            lost = await used.call("end")
            assert lost.failure is not None
            assert "ended" in lost.text
            assert (await used.call("add", '{"a": 1, "b": 1}')).text == "2"

    asyncio.run(run())


def test_a_program_sees_little_of_our_environment_and_leaves_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_API_KEY", "secret")
    monkeypatch.setenv("NAMED", "1")
    before = set(psutil.Process().children(recursive=True))

    async def run() -> None:
        named = McpServer(name="peer", command=STDIO.command, environment=("NAMED",), seconds=60)
        async with Used(named) as used:
            names = (await used.call("environment")).text
            assert "NAMED" in names
            assert "HEARTH_API_KEY" not in names
            assert set(psutil.Process().children(recursive=True)) - before

    asyncio.run(run())
    assert not set(psutil.Process().children(recursive=True)) - before


def test_a_program_behind_the_seal_answers_and_has_no_network() -> None:
    """As it is started in offline mode where tools of ours keep the gateway's own seal from being whole."""
    probe = (
        "import json, socket, sys\n"
        "try: socket.create_connection(('127.0.0.1', 9), 2)\n"
        "except PermissionError as error: sys.exit('kept from the network')\n"
        "except OSError: sys.exit('not kept')\n"
    )
    sealed = (*paths.self_command(), "sealed")
    done = subprocess.run([*sealed, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "kept from the network"
    missing = subprocess.run([*sealed, "/nowhere/program"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr.strip()) == (
        127,
        "/nowhere/program cannot be started: No such file or directory",
    )

    async def run() -> None:
        stdio = Stdio("peer", STDIO.command, (), lambda: sealed)
        await stdio.open()
        asked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await asyncio.wait_for(stdio.ask(asked), 60))["id"] == 1
        await stdio.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "command",
    [
        ("/nowhere/program",),
        (sys.executable, "-c", "print('hello'); import time; time.sleep(0.2)"),
        (sys.executable, "-c", "import sys; sys.stdout.write('x' * 5_000_000); sys.stdout.flush(); input()"),
        (sys.executable, "-c", "print('[]')\nprint('{}')\nprint('{\"id\": 1}')\ninput()\ninput()"),
    ],
)
def test_what_is_no_mcp_server_fails_and_is_no_harm(command: tuple[str, ...]) -> None:
    async def run() -> None:
        async with Used(McpServer(name="peer", command=command, seconds=1)) as used:
            with pytest.raises(ToolFailure):
                await used.list()
            assert (await used.call("add")).failure is not None

    asyncio.run(run())


def test_offline_an_address_elsewhere_is_not_asked() -> None:
    async def run() -> None:
        async with Used(McpServer(name="peer", url="http://192.0.2.1/mcp")) as used:
            with pytest.raises(ToolFailure, match="offline"):
                await used.list()

    asyncio.run(run())


def test_who_may_use_what() -> None:
    async def run() -> None:
        async with Used(STDIO) as used:
            with pytest.raises(Forbidden) as refused:
                await used.tools.offered("peer", (), "tools[0]")
            assert refused.value.detail_code == "tool_not_enabled"
            with pytest.raises(InvalidValue):
                await used.tools.offered("other", ("peer",), "tools[0]")
            assert await used.tools.offered("hearth", (), "tools[0]") == ()

    asyncio.run(run())


@pytest.mark.parametrize(
    "settings",
    [
        Settings(enabled=("nothing",)),
        Settings(servers=(McpServer(name="a"),)),
        Settings(servers=(McpServer(name="a", command=("x",), url="http://127.0.0.1/"),)),
        Settings(servers=(McpServer(name="calculator", command=("x",)),)),
        Settings(servers=(McpServer(name="hearth", command=("x",)),)),
        Settings(servers=(McpServer(name="a", command=("x",)), McpServer(name="a", command=("x",)))),
        Settings(servers=(McpServer(name="a", url="ftp://127.0.0.1/"),)),
        Settings(servers=(McpServer(name="a", url="http://127.0.0.1/", token_variable="NOT_SET_HERE"),)),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="tools"):
        Tools(settings, EgressGuard(is_offline=True).check, lambda _: None)
