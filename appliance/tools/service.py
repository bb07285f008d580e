"""The tools that this server runs: who may use which; calls, limited in time and size, and audited.

Built-in tools are the server `hearth`; the others are MCP servers by their names. What a tool answers goes to
the model only; the audit has who called what, when, for how long and how it ended, never what was said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from appliance.config.tools import McpServer as McpSettings
from appliance.config.tools import Tools as Settings
from appliance.errors import ConfigError, Forbidden, InvalidValue
from appliance.tools.calculator import CALCULATOR, calculate
from appliance.tools.local_http import AddressCheck, LocalHttp
from appliance.tools.mcp.server import McpServer
from appliance.tools.mcp.stdio import Stdio
from appliance.tools.mcp.streamable import StreamableHttp
from appliance.tools.tool import ToolFact, ToolFailure, ToolServer

BUILT_IN = "hearth"  # the label of the built-in tools' server
LIST_SECONDS = 30.0  # to start a server and learn its tools
MAX_ARGUMENTS = 256 * 1024

Caller = Callable[[dict[str, Any]], Awaitable[str]]


class Called(Struct, frozen=True, kw_only=True):
    """How a call ended. `text` is what the model is shown, also of a failure; `is_cut`: not all of it."""

    text: str
    failure: ToolFailure | None = None
    is_cut: bool = False


class CallRecord(Struct, frozen=True, kw_only=True):
    """One call for the audit. `outcome`: "ok", "timeout", a failure's kind; `size`: bytes of the answer."""

    user: str
    server: str
    tool: str
    outcome: str
    seconds: float
    size: int


class Tools:
    """Raises ConfigError for settings that cannot be. `check`: the egress guard's; `audit` takes calls;
    `through`: what the commands of MCP servers are started through."""

    def __init__(
        self,
        settings: Settings,
        check: AddressCheck,
        audit: Callable[[CallRecord], None],
        through: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._settings, self._audit = settings, audit
        self._http = LocalHttp(settings.http, check, most_bytes=settings.output_bytes)
        self._built_in: dict[str, tuple[ToolFact, Caller]] = {
            CALCULATOR.name: (CALCULATOR, _calculate),
            "local_http": (self._http.fact(), self._http.call),
        }
        self._seconds: dict[str, float] = {}
        self._servers: dict[str, ToolServer] = {}
        for each in settings.servers:
            if each.name in self._servers or each.name in (*self._built_in, BUILT_IN):
                raise ConfigError(f"tools.servers: the name {each.name!r} is taken")
            self._servers[each.name] = _open(each, check, through)
            self._seconds[each.name] = each.seconds
        if unknown := set(settings.enabled) - self.names():
            raise ConfigError(
                f"tools.enabled names {min(unknown)!r}; there are: {', '.join(sorted(self.names()))}"
            )

    @property
    def most_calls(self) -> int:
        """Of one response."""
        return self._settings.calls

    def names(self) -> set[str]:
        """What may be enabled: the built-in tools and the servers."""
        return {*self._built_in, *self._servers}

    def is_built_in(self, name: str) -> bool:
        return name in self._built_in

    def built_in(self, name: str, allowed: Collection[str], param: str) -> ToolFact:
        """Raises Forbidden when it is not among `allowed`."""
        self._require(name, allowed, param)
        return self._built_in[name][0]

    async def offered(self, server: str, allowed: Collection[str], param: str) -> tuple[ToolFact, ...]:
        """A server's tools. Raises Forbidden, InvalidValue for an unknown one, ToolFailure."""
        if server == BUILT_IN:
            return tuple(fact for name, (fact, _) in self._built_in.items() if name in allowed)
        if server not in self._servers:
            there = ", ".join(sorted({*self._servers, BUILT_IN}))
            raise InvalidValue(f"there is no MCP server {server!r} here; there are: {there}", param=param)
        self._require(server, allowed, param)
        try:
            async with asyncio.timeout(LIST_SECONDS):
                return await self._servers[server].tools()
        except TimeoutError:
            raise ToolFailure(f"the MCP server {server} did not answer within {LIST_SECONDS:g} s") from None

    async def call(self, user: str, server: str, tool: str, arguments: str) -> Called:
        """Run it. `arguments` is the JSON text that the model wrote. A failure is an answer too."""
        begun, outcome, called = time.monotonic(), "cancelled", Called(text="")
        seconds = self._seconds.get(server, self._settings.seconds)
        try:
            async with asyncio.timeout(seconds):
                called = self._cut(await self._run(server, tool, _decoded(arguments)))
            outcome = "ok"
        except TimeoutError:
            failure = ToolFailure(f"{tool} did not answer within {seconds:g} s")
            outcome, called = "timeout", Called(text=failure.message, failure=failure)
        except ToolFailure as failure:
            outcome, called = failure.kind, Called(text=failure.message, failure=failure)
        finally:
            self._audit(
                CallRecord(
                    user=user,
                    server=server,
                    tool=tool,
                    outcome=outcome,
                    seconds=round(time.monotonic() - begun, 3),
                    size=len(called.text.encode("utf-8", "replace")),
                )
            )
        return called

    async def close(self) -> None:
        await asyncio.gather(
            self._http.close(),
            *(server.close() for server in self._servers.values()),
            return_exceptions=True,
        )

    async def _run(self, server: str, tool: str, arguments: dict[str, Any]) -> str:
        if server != BUILT_IN:
            return await self._servers[server].call(tool, arguments)
        _, caller = self._built_in[tool]
        return await caller(arguments)

    def _cut(self, text: str) -> Called:
        raw = text.encode("utf-8", "replace")
        most = self._settings.output_bytes
        if len(raw) <= most:
            return Called(text=text)
        shown = raw[:most].decode("utf-8", "ignore")
        return Called(text=f"{shown}\n[the rest was left out: more than {most} bytes]", is_cut=True)

    def _require(self, name: str, allowed: Collection[str], param: str) -> None:
        if name not in allowed:
            raise Forbidden(
                f"the tool {name!r} is not enabled for this key (its `tools`; without a key: tools.enabled)",
                param=param,
                code="tool_not_enabled",
            )


def _open(settings: McpSettings, check: AddressCheck, through: Callable[[], Sequence[str]]) -> ToolServer:
    if bool(settings.command) == bool(settings.url):
        raise ConfigError(f"tools.servers: {settings.name} needs either `command` or `url`")
    if settings.command:
        return McpServer(Stdio(settings.name, settings.command, settings.environment, through))
    return McpServer(StreamableHttp(settings.name, settings.url, settings.token_variable, check))


async def _calculate(arguments: dict[str, Any]) -> str:
    expression = arguments.get("expression")
    if not isinstance(expression, str):
        raise ToolFailure("`expression` is a text")
    return calculate(expression)


def _decoded(arguments: str) -> dict[str, Any]:
    if len(arguments) > MAX_ARGUMENTS:
        raise ToolFailure(f"the arguments have more than {MAX_ARGUMENTS} characters")
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ToolFailure(f"the arguments are no JSON object: {error}") from error
