"""An MCP server that is a program of this machine: one message a line on its standard input and output.

The program is started when it is first needed, in a process group of its own, with no more of our environment
than PATH, HOME, LANG and what the settings name; what it says on standard error goes to our log. In offline
mode it can open no network socket: it inherits the kernel's seal, or where tools of ours need TCP and the
seal is not whole, is started through a program that seals itself first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence

import msgspec

from appliance.tools.mcp.transport import MAX_MESSAGE, Message, answer_to
from appliance.tools.tool import ToolFailure

log = logging.getLogger("hearth.tools")

ALWAYS = ("PATH", "HOME", "LANG")
GRACE_SECONDS = 2.0  # between the end of its input, SIGTERM and SIGKILL
MAX_LOG_LINE = 500


class Stdio:
    """`label` names the server in the log; `through` gives the words in front of its command."""

    def __init__(
        self,
        label: str,
        command: Sequence[str],
        variables: Sequence[str],
        through: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._label, self._command, self._through = label, tuple(command), through
        self._environment = {n: os.environ[n] for n in (*ALWAYS, *variables) if n in os.environ}
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._is_over = True  # its output has ended
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    @property
    def is_open(self) -> bool:
        return self._process is not None and not self._is_over

    async def open(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._through(),
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_MESSAGE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailure(
                f"the MCP server {self._label} did not start: {error.strerror}", "protocol"
            ) from error
        self._is_over = False
        self._readers = [
            asyncio.ensure_future(self._read(self._process)),
            asyncio.ensure_future(self._log(self._process)),
        ]

    async def ask(self, request: Message) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[request["id"]] = answer
        try:
            await self._send(request)
            return await answer
        finally:
            self._waiting.pop(request["id"], None)

    async def tell(self, notification: Message) -> None:
        await self._send(notification)

    async def close(self) -> None:
        """First its input ends, as the protocol asks; a program that stays is terminated, then killed."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for how in (None, signal.SIGTERM, signal.SIGKILL):
            if how is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_SECONDS)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started and left behind
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _send(self, message: Message) -> None:
        process = self._process
        if process is None or process.stdin is None or self._is_over:
            raise self._lost()
        try:
            process.stdin.write(msgspec.json.encode(message) + b"\n")
            await process.stdin.drain()
        except (OSError, RuntimeError) as error:
            raise self._lost() from error

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                await self._take(line)
        except ValueError:
            log.warning("the MCP server %s sent a message of more than %d bytes", self._label, MAX_MESSAGE)
        finally:
            self._is_over = True
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._lost())

    async def _take(self, line: bytes) -> None:
        try:
            message = msgspec.json.decode(line)
        except msgspec.DecodeError:
            log.warning("the MCP server %s wrote what is no JSON: %r", self._label, line[:100])
            return
        if not isinstance(message, dict):
            return
        if (reply := answer_to(message)) is not None:
            with contextlib.suppress(ToolFailure):
                await self._send(reply)
            return
        answer = self._waiting.get(message.get("id", -1))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError):
            while line := await process.stderr.readline():
                text = line[:MAX_LOG_LINE].decode("utf-8", "replace").rstrip()
                log.info("%s: %s", self._label, text)

    def _lost(self) -> ToolFailure:
        return ToolFailure(f"the MCP server {self._label} has ended", "protocol")
