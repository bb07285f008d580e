"""A scripted online service: a real HTTP server on loopback that speaks the OpenAI API, with faults on
demand.

`Service` runs in a thread of its own; `python -m tests.upstream.service` in a process of its own (healthy,
for benchmarks; prints its address). The next requests take the behaviours given to `script`, then the
default. A request whose last turn is a partial answer is continued from there, if that really is the text's
beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator

import uvloop

from tests.upstream.behaviour import HEALTHY, Behaviour, Seen, in_pieces, make_text

FOR_EVER = 3600


class Service:
    """`text` is what every answer says. `requests` is what was asked, oldest first."""

    def __init__(
        self,
        text: str = "",
        *,
        default: Behaviour = HEALTHY,
        models: tuple[str, ...] = ("big",),
        continues: str = "prefix",
        tls: ssl.SSLContext | None = None,
        keep: int = 10_000,
    ) -> None:
        self.text = text or make_text(1)
        self.default = default
        self.models = models
        self.continues = continues
        self.requests: deque[Seen] = deque(maxlen=keep)
        self.connections = 0
        self.running = 0
        self.most_running = 0
        self._tls = tls
        self._script: deque[Behaviour] = deque()
        self._loop = uvloop.new_event_loop()
        self._started = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        self._script.extend(behaviours)

    # Life

    def __enter__(self) -> Service:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.serve())
        self._loop.close()

    async def serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, sock=self._socket, ssl=self._tls)
        self._started.set()
        await self._stopping.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._script and self._script[0].connect != "accept":
                _end(writer, is_reset=self._script.popleft().connect == "reset")
                return
            early = bytearray()  # of the next request, read while watching for the client to leave
            while await self._answer(reader, writer, early):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            pass
        finally:
            writer.close()

    # One request

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytearray
    ) -> bool:
        try:
            head = bytes(early) + await reader.readuntil(b"\r\n\r\n")
            early.clear()
        except asyncio.IncompleteReadError:
            return False
        seen = _seen(head)
        if size := int(seen.headers.get("content-length", 0)):
            seen.body = json.loads(await reader.readexactly(size))
        self.requests.append(seen)
        if seen.method == "GET":
            models = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
            writer.write(_plain(200, json.dumps(models).encode()))
            return True
        behaviour = self._script.popleft() if self._script else self.default
        if behaviour.connect != "accept":
            _end(writer, is_reset=behaviour.connect == "reset")
            return False
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        answering = asyncio.ensure_future(self._send(seen, behaviour, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not leaving.result():
                seen.was_left = True
                return False
            return await answering
        finally:
            self.running -= 1
            for task in (answering, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await task
            if leaving.done() and not leaving.cancelled() and leaving.exception() is None:
                early.extend(leaving.result())

    async def _send(self, seen: Seen, how: Behaviour, writer: asyncio.StreamWriter) -> bool:
        await _pause(how.before_head)
        if how.raw is not None:
            writer.write(how.raw)
            await _pause(FOR_EVER)
        if how.status != 200 or how.body is not None:
            body = how.body
            if body is None:
                key = seen.headers.get("authorization", "")
                error = {"message": f"scripted {how.status} for {key}", "type": "x", "code": "scripted"}
                body = json.dumps({"error": error}).encode()
            writer.write(_plain(how.status, body, how.headers))
            return how.keep_alive
        said = _partial(seen.body)
        assert self.text.startswith(said), f"the partial answer is not the text's beginning: {said!r}"
        text = self.text if self.continues == "echo" else self.text[len(said) :]
        if how.is_whole or not seen.body.get("stream"):
            writer.write(_plain(200, json.dumps(_whole(text)).encode()))
            return True
        keep = b"" if how.keep_alive else b"connection: close\r\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n" + keep + b"\r\n"
        )
        async for event in self._events(seen, how, text):
            block = (event + "\n\n").replace("\n", how.line_end).encode()
            for part in _parts(block, how.dribble):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                if how.dribble:
                    await asyncio.sleep(0)
            await writer.drain()
        if how.cut_after is not None:
            return await self._cut(how, writer)
        writer.write(b"0\r\n\r\n")
        return how.keep_alive

    async def _events(self, seen: Seen, how: Behaviour, text: str) -> AsyncIterator[str]:
        for _ in range(how.comments):
            yield ": ping"
        yield _event({"role": "assistant", "content": ""})
        await _pause(how.before_text)
        if how.cut_after is not None:
            text = text[: how.cut_after]
        for piece in [] if how.is_empty else in_pieces(text, len(text)):
            yield _event({"content": piece})
            seen.sent.append(piece)
            await _pause(how.between)
        if how.cut_after is not None:
            return
        if how.send_finish:
            yield _event({}, finish="stop")
        if how.send_usage:
            count = 0 if how.is_empty else len(seen.sent)
            usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
            yield "data: " + json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage})
        if how.send_done:
            yield "data: [DONE]"

    async def _cut(self, how: Behaviour, writer: asyncio.StreamWriter) -> bool:
        last = {
            "garbage": b"<html>502 Bad Gateway</html>\n\n",
            "bad-json": b'data: {"choices": [{"delta": {"con\n\n',
            "bad-shape": b'data: {"choices": "none"}\n\n',
            "error-event": b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n',
            "done": b"data: [DONE]\n\n",
        }
        if how.ending in last:
            part = last[how.ending]
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(part), part))
            return True
        if how.ending == "no-done":
            writer.write(b"0\r\n\r\n")
            return True
        await writer.drain()
        await asyncio.sleep(0.002)  # what was written must be on its way before a reset takes it back
        if how.ending == "bad-chunk":
            writer.write(b"zz\r\n")
        elif how.ending == "half-close":
            writer.write_eof()
        elif how.ending in ("close", "reset"):
            _end(writer, is_reset=how.ending == "reset")
            return False
        await _pause(FOR_EVER)
        return False


def _seen(head: bytes) -> Seen:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = [line.split(": ", 1) for line in lines if line]
    return Seen(method=method, path=path, headers={name.lower(): value for name, value in pairs}, body={})


def _partial(body: dict[str, object]) -> str:
    messages = body.get("messages")
    if isinstance(messages, list) and messages[-1]["role"] == "assistant":
        return str(messages[-1]["content"])
    return ""


def _plain(status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"content-length: {len(body)}"]
    if not any(name == "content-type" for name, _ in headers):
        lines.append("content-type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _event(delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return "data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]})


def _whole(text: str) -> dict[str, object]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "x", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}


def _parts(block: bytes, size: int) -> list[bytes]:
    return [block[at : at + size] for at in range(0, len(block), size)] if size else [block]


async def _pause(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)


def _end(writer: asyncio.StreamWriter, *, is_reset: bool) -> None:
    if is_reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--characters", type=int, default=200)
    given = parser.parse_args()
    service = Service(make_text(1, given.characters), keep=1)
    print(service.url, flush=True)
    uvloop.run(service.serve())


if __name__ == "__main__":
    main()
