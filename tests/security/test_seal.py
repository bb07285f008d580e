"""A sealed process: seen from inside it, for it cannot be taken back."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.security.seal import seal

ROOT = Path(__file__).parents[2]
PROGRAM = """
import ctypes, os, socket, subprocess, sys, threading
from appliance.security.seal import seal

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
go, done = threading.Event(), []
def late():
    go.wait()
    done.append(refused(lambda: socket.socket(socket.AF_INET)))
def refused(work):
    try:
        work().close()
    except PermissionError:
        return True
    return False
thread = threading.Thread(target=late)
thread.start()
if not seal():
    go.set()
    print("unsealed")
    sys.exit()
assert refused(lambda: socket.socket(socket.AF_INET))
assert refused(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
assert refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
go.set()
thread.join()
assert done == [True], "threads that were there before"
libc = ctypes.CDLL(None, use_errno=True)
assert libc.socket(2, 1, 0) == -1 and ctypes.get_errno() == 1, "C code"
assert libc.syscall(425, 8, None) == -1 and ctypes.get_errno() == 1, "io_uring"
first, second = socket.socketpair()
first.send(b"x")
assert second.recv(1) == b"x"
socket.socket(socket.AF_UNIX).close()
socket.if_nameindex()
server, _ = listener.accept()
client.send(b"y")
assert server.recv(1) == b"y", "sockets that were open go on"
words = [sys.executable, "-c", "import socket; socket.socket()"]
child = subprocess.run(words, capture_output=True, text=True)
assert "PermissionError" in child.stderr, child.stderr
print("sealed")
"""


TCP_ONLY = """
import ctypes, socket
from appliance.security.seal import seal
if not seal(allows_tcp=True):
    raise SystemExit("unsealed")
for family in (socket.AF_INET, socket.AF_INET6):
    socket.socket(family, socket.SOCK_STREAM).close()
    socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC).close()
socket.socketpair()
socket.if_nameindex()
others = [
    (socket.AF_INET, socket.SOCK_DGRAM),
    (socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC),
    (socket.AF_INET, socket.SOCK_RAW),
    (socket.AF_PACKET, socket.SOCK_RAW),
]
for family, kind in others:
    try:
        socket.socket(family, kind)
    except PermissionError:
        continue
    raise SystemExit(f"{family} {kind} passed")
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(425, 8, None) == -1 and ctypes.get_errno() == 1, "io_uring"
print("sealed")
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this processor")
def test_a_process_with_tools_keeps_tcp_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TCP_ONLY], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if "unsealed" in done.stderr:
        pytest.skip("this kernel takes no seccomp filter")
    assert done.stdout.strip() == "sealed", done.stderr


def test_where_there_is_no_filter_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None of these may really seal the process of the tests."""
    caplog.set_level("INFO", "hearth")

    class Kernel:
        """One whose `prctl` and `syscall` answer so."""

        def __init__(self, prctl: int, syscall: int) -> None:
            self.prctl = lambda *_: prctl
            self.syscall = lambda *_: syscall

    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "riscv64")
        assert not seal()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for kernel in (Kernel(prctl=-1, syscall=0), Kernel(prctl=0, syscall=-1)):
        monkeypatch.setattr("appliance.security.seal.ctypes.CDLL", lambda *_, kernel=kernel, **__: kernel)
        assert not seal()
    assert "takes no seccomp filter" in caplog.text
    monkeypatch.setattr("appliance.security.seal.ctypes.CDLL", lambda *_, **__: Kernel(prctl=0, syscall=0))
    assert seal()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this processor")
def test_a_sealed_process_opens_no_network_socket_and_keeps_those_it_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.stdout.strip() == "unsealed":
        pytest.skip("this kernel takes no seccomp filter")
    assert done.stdout.strip() == "sealed", done.stderr
