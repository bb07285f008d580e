"""What a tool is, whoever runs it: its description, its answer, and how a call of it may fail."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from msgspec import Struct

FailureKind = Literal["protocol", "execution", "http"]


class ToolFact(Struct, frozen=True, kw_only=True):
    """`parameters` is the JSON schema of the arguments, an object's; `annotations` are the server's words."""

    name: str
    description: str
    parameters: dict[str, Any]
    annotations: dict[str, Any] | None = None


class ToolFailure(Exception):
    """A call that did not succeed. `code`: JSON-RPC's for `protocol`, the status for `http`, else 0."""

    def __init__(self, message: str, kind: FailureKind = "execution", code: int = 0) -> None:
        super().__init__(message)
        self.message, self.kind, self.code = message, kind, code


class ToolServer(Protocol):
    """Something that has tools. Both methods raise ToolFailure, and may take any time: callers limit it."""

    async def tools(self) -> tuple[ToolFact, ...]: ...

    async def call(self, name: str, arguments: dict[str, Any]) -> str: ...

    async def close(self) -> None: ...
