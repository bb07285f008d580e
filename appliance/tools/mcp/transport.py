"""What carries JSON-RPC messages to an MCP server and back. Knows requests, not what they mean."""

from __future__ import annotations

from typing import Any, Protocol

from appliance.tools.tool import ToolFailure

MAX_MESSAGE = 4 * 1024 * 1024  # bytes of one message

Message = dict[str, Any]


class Transport(Protocol):
    """All methods raise ToolFailure when the server cannot be reached or breaks the protocol."""

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None: ...

    async def ask(self, request: Message) -> Message:
        """The answer with the request's id. Cancelling gives the request up."""
        ...

    async def tell(self, notification: Message) -> None: ...

    async def close(self) -> None: ...


def answer_to(message: Message) -> Message | None:
    """What we answer to a message that the server sends by itself; None: nothing."""
    if "method" not in message or "id" not in message:
        return None
    if message["method"] == "ping":
        return {"jsonrpc": "2.0", "id": message["id"], "result": {}}
    error = {"code": -32601, "message": f"{message['method']} is not served by this client"}
    return {"jsonrpc": "2.0", "id": message["id"], "error": error}


def result_of(answer: Message) -> dict[str, Any]:
    """Raises ToolFailure for an error and for what is no answer."""
    error = answer.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        raise ToolFailure(str(error.get("message"))[:2000], "protocol", code if isinstance(code, int) else 0)
    result = answer.get("result")
    if not isinstance(result, dict):
        raise ToolFailure("the MCP server's answer has neither result nor error", "protocol", -32600)
    return result
