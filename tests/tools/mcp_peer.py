"""A real MCP server, made with the protocol's own package: `python mcp_peer.py stdio | http PORT`."""

import os
import sys
import time

from mcp.server.mcpserver import MCPServer

server = MCPServer("peer")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("no luck")


@server.tool()
def long(count: int) -> str:
    """A long text."""
    return "x" * count


@server.tool()
def slow(seconds: float) -> str:
    """Takes its time."""
    time.sleep(seconds)
    return "done"


@server.tool()
def end() -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def environment() -> list[str]:
    """The names of its variables."""
    return sorted(os.environ)


if sys.argv[1] == "stdio":
    server.run()
else:
    server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
