"""The egress guard, in fresh interpreters because its hook cannot be taken out, and under strace where
there is one.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.security.egress import EgressGuard, EgressRefused, is_loopback

ROOT = Path(__file__).parents[2]
AWAY = "192.0.2.1"  # TEST-NET-1: belongs to nobody

PRELUDE = """
import asyncio, socket, sys, threading, urllib.request
import httpx, uvloop
from appliance.security.egress import EgressGuard, EgressRefused
guard = EgressGuard(is_offline=True)
guard.install()
def refused(work):
    before = guard.refused
    try:
        work()
    except Exception as error:
        causes = []
        while error is not None:
            causes.append(type(error).__name__)
            error = error.__cause__ or error.__context__
        assert "EgressRefused" in causes or "refused inside" in str(causes) or guard.refused > before, causes
    else:
        raise AssertionError("it passed")
    assert guard.refused > before, "not counted"
def on_loop(work):
    async def watched():
        guard.watch(asyncio.get_running_loop())
        await work()
    return lambda: uvloop.run(watched())
"""

ATTEMPTS = {
    "connect": "lambda: socket.create_connection(('192.0.2.1', 80), 2)",
    "connect_ex": "lambda: socket.socket().connect_ex(('192.0.2.1', 80))",
    "connect to a mapped address": "lambda: socket.socket(socket.AF_INET6).connect(('::ffff:192.0.2.1', 80))",
    "send": "lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "sendmsg": "lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    ".sendmsg([b'x'], [], 0, ('192.0.2.1', 53))",
    "look-up": "lambda: socket.getaddrinfo('example.test', 443)",
    "old look-up": "lambda: socket.gethostbyname('example.test')",
    "urllib": "lambda: urllib.request.urlopen('http://192.0.2.1/', timeout=2)",
    "httpx": "lambda: httpx.get('http://192.0.2.1/', timeout=2, trust_env=False)",
    "httpx by name": "lambda: httpx.get('https://example.test/', timeout=2, trust_env=False)",
    "httpx on uvloop": "on_loop(lambda: httpx.AsyncClient(trust_env=False, timeout=2).get('http://192.0.2.1/'))",
    "uvloop": "on_loop(lambda: asyncio.open_connection('192.0.2.1', 80))",
    "uvloop by name": "on_loop(lambda: asyncio.open_connection('example.test', 80))",
    "uvloop datagram": "on_loop(lambda: asyncio.get_running_loop().create_datagram_endpoint("
    "asyncio.DatagramProtocol, remote_addr=('192.0.2.1', 53)))",
}


def run_script(script: str, *wrapper: str) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-c", PRELUDE + script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_every_way_out_is_refused_and_counted() -> None:
    script = "".join(f"\nprint({name!r}); refused({attempt})" for name, attempt in ATTEMPTS.items())
    done = run_script(script + "\nprint('all refused', guard.refused)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all refused" in done.stdout


def test_loopback_works_and_release_lets_pass() -> None:
    script = """
server = socket.create_server(("127.0.0.1", 0)); port = server.getsockname()[1]
socket.create_connection(("localhost", port)).close()
async def work():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
on_loop(work)()
left, right = socket.socketpair(); left.send(b"x")
assert guard.refused == 0
guard.release()
try: socket.create_connection(("192.0.2.1", 80), 0.01)
except EgressRefused: raise SystemExit("still refused")
except OSError: pass
print("passed")
"""
    done = run_script(script)
    assert done.stdout.strip() == "passed", done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_connect_reaches_the_kernel(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    script = "".join(f"\nrefused({attempt})" for attempt in ATTEMPTS.values())
    done = run_script(script, "strace", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log))
    assert done.returncode == 0, done.stderr
    calls = [line for line in log.read_text().splitlines() if "sin_addr" in line or "sin6_addr" in line]
    leaving = [line for line in calls if "127." not in line and '"::1"' not in line]
    assert not leaving


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        (b"LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:192.0.2.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost.example.test", False),
        ("127.0.0.1.example.test", False),
        ("2130706433", False),
        ("0x7f.1", False),
    ],
)
def test_what_is_this_machine(host: str | bytes, here: bool) -> None:
    assert is_loopback(host) is here


def test_check_refuses_only_offline() -> None:
    EgressGuard(is_offline=False).check(AWAY, 443)
    guard = EgressGuard(is_offline=True)
    guard.check("127.0.0.1", 443)
    with pytest.raises(EgressRefused, match=r"offline: a connection to 192\.0\.2\.1:443"):
        guard.check(AWAY, 443)
    assert guard.refused == 1


def _guard() -> EgressGuard:
    """Not installed: what its hook and its wrappers decide is asked directly."""
    return EgressGuard(is_offline=True)


@pytest.mark.parametrize(
    ("event", "arguments", "leaves"),
    [
        ("socket.connect", (None, ("127.0.0.1", 80)), False),
        ("socket.connect", (None, (AWAY, 80)), True),
        ("socket.connect", (None, (AWAY,)), True),
        ("socket.connect", (None, "/run/socket"), False),
        ("socket.connect", (None, b"\0abstract"), False),
        ("socket.sendto", (None, ("::1", 53, 0, 0)), False),
        ("socket.sendto", (None, ("2001:db8::1", 53, 0, 0)), True),
        ("socket.sendmsg", (None, None), False),
        ("socket.sendmsg", (None, ()), False),
        ("socket.getaddrinfo", ("example.test", 443), True),
        ("socket.getaddrinfo", (b"example.test", 443), True),
        ("socket.getaddrinfo", (AWAY, 443), False),
        ("socket.getaddrinfo", ("localhost", 443), False),
        ("socket.getaddrinfo", (None, 443), False),
        ("socket.gethostbyname", ("example.test",), True),
        ("socket.getnameinfo", (("example.test", 80),), True),
        ("open", ("/etc/hosts", "r", 0), False),
    ],
)
def test_what_the_hook_refuses(event: str, arguments: tuple[object, ...], leaves: bool) -> None:
    guard = _guard()
    if leaves:
        with pytest.raises(EgressRefused):
            guard._on_event(event, arguments)
    else:
        guard._on_event(event, arguments)
    assert guard.refused == leaves
    guard.release()
    guard._on_event(event, arguments)
    assert guard.refused == leaves


@pytest.mark.parametrize(
    ("name", "arguments", "options", "leaves"),
    [
        ("create_connection", (None, AWAY, 80), {}, True),
        ("create_connection", (None,), {"host": AWAY, "port": 80}, True),
        ("create_connection", (None, "127.0.0.1", 80), {}, False),
        ("create_connection", (None,), {"sock": object()}, False),
        ("create_datagram_endpoint", (None, None, (AWAY, 53)), {}, True),
        ("create_datagram_endpoint", (None,), {"remote_addr": (AWAY, 53)}, True),
        ("create_datagram_endpoint", (None,), {"remote_addr": ("::1", 53)}, False),
        ("create_datagram_endpoint", (None,), {"local_addr": ("0.0.0.0", 0)}, False),
        ("getaddrinfo", ("example.test", 443), {}, True),
        ("getaddrinfo", (), {"host": "example.test", "port": 443}, True),
        ("getaddrinfo", (AWAY, 443), {}, False),
        ("getaddrinfo", (None, 443), {}, False),
    ],
)
def test_what_a_watched_loop_refuses(
    name: str, arguments: tuple[object, ...], options: dict[str, object], leaves: bool
) -> None:
    called = []

    async def method(*arguments: object, **options: object) -> None:
        called.append((arguments, options))

    guard = _guard()
    guarded = guard._wrapped(name, method)
    if leaves:
        with pytest.raises(EgressRefused):
            asyncio.run(guarded(*arguments, **options))
        assert called == []
    else:
        asyncio.run(guarded(*arguments, **options))
        assert called == [(arguments, options)]
    guard.release()
    asyncio.run(guarded(*arguments, **options))
    assert called[-1] == (arguments, options)


def test_a_loop_is_watched_and_a_guard_can_be_enforced() -> None:
    async def run() -> None:
        guard = EgressGuard(is_offline=False)
        assert not guard.is_offline
        guard.watch(asyncio.get_running_loop())
        guard.enforce()
        assert guard.is_offline
        with pytest.raises(EgressRefused):
            await asyncio.open_connection(AWAY, 80)
        assert guard.refused == 1

    asyncio.run(run())


def test_the_hook_is_put_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[object] = []
    monkeypatch.setattr("appliance.security.egress.sys.addaudithook", hooks.append)
    guard = _guard()
    guard.install()
    guard.install()
    assert hooks == [guard._on_event]
