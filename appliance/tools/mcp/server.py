"""One MCP server: connected when it is needed, its tools known until it says that they changed.

Source: Model Context Protocol, lifecycle and tools, 2025-06-18. A connection that failed is made anew by the
next call; a call is never made twice, for it may have had an effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from appliance.tools.mcp.transport import Transport, result_of
from appliance.tools.tool import ToolFact, ToolFailure
from appliance.version import VERSION

PROTOCOL_VERSION = "2025-06-18"
MAX_TOOLS = 128
MAX_PAGES = 16


class McpServer:
    """Speaks over `transport`, which it owns."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids = itertools.count(1)
        self._opening = asyncio.Lock()
        self._is_ready = False

    async def tools(self) -> tuple[ToolFact, ...]:
        """What it offers now."""
        await self._connect()
        found: list[ToolFact] = []
        cursor: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = await self._ask("tools/list", cursor)
            found += [_fact(entry) for entry in page.get("tools", ())]
            if len(found) > MAX_TOOLS:
                raise ToolFailure(f"the server has more than {MAX_TOOLS} tools", "protocol")
            if not page.get("nextCursor"):
                return tuple(found)
            cursor = {"cursor": page["nextCursor"]}
        raise ToolFailure(f"the server's list of tools has more than {MAX_PAGES} pages", "protocol")

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """The text of the answer."""
        await self._connect()
        result = await self._ask("tools/call", {"name": name, "arguments": arguments})
        text = _text(result)
        if result.get("isError"):
            raise ToolFailure(text or "the tool failed and did not say why")
        return text

    async def close(self) -> None:
        self._is_ready = False
        await self._transport.close()

    async def _connect(self) -> None:
        async with self._opening:
            if self._is_ready and self._transport.is_open:
                return
            await self.close()
            await self._transport.open()
            try:
                await self._send_ask(
                    "initialize",
                    {
                        "protocolVersion": PROTOCOL_VERSION,
                        "capabilities": {},
                        "clientInfo": {"name": "hearth", "version": VERSION},
                    },
                )
                await self._transport.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
            except BaseException:
                await self._transport.close()
                raise
            self._is_ready = True

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._send_ask(method, parameters)
        except ToolFailure as failure:
            if failure.kind == "http" or not self._transport.is_open:
                self._is_ready = False  # a session that has ended, or a server: the next call begins anew
            raise

    async def _send_ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        id = next(self._ids)
        try:
            return result_of(
                await self._transport.ask(
                    {"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}
                )
            )
        except asyncio.CancelledError:
            if method != "initialize":
                await self._give_up(id)
            raise

    async def _give_up(self, id: int) -> None:
        cancelled = {"requestId": id, "reason": "the client waits no longer"}
        with contextlib.suppress(ToolFailure, TimeoutError):
            await asyncio.wait_for(
                self._transport.tell(
                    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}
                ),
                1.0,
            )


def _fact(entry: Any) -> ToolFact:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ToolFailure("the server's list of tools is not as the protocol has it", "protocol")
    schema, annotations = entry.get("inputSchema"), entry.get("annotations")
    return ToolFact(
        name=entry["name"],
        description=str(entry.get("description") or entry.get("title") or ""),
        parameters=schema if isinstance(schema, dict) else {"type": "object"},
        annotations=annotations if isinstance(annotations, dict) else None,
    )


def _text(result: dict[str, Any]) -> str:
    """The content's texts; of what is no text, what it is."""
    pieces = []
    for part in result.get("content", ()):
        if not isinstance(part, dict):
            continue
        resource = part.get("resource")
        if part.get("type") == "text":
            pieces.append(str(part.get("text", "")))
        elif isinstance(resource, dict) and "text" in resource:
            pieces.append(str(resource["text"]))
        else:
            pieces.append(f"[{part.get('type')}: not shown, the local models read text only]")
    return "\n".join(pieces)
