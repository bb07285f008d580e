"""Offline mode as the kernel sees it: every connect and send of the whole server, and every file that it
makes or changes, traced, without a network.

Run from the repository's root:

    python -m tests.faults.offline

The script enters a network namespace of its own (`unshare -rn`), brings up loopback there, and starts the
server under strace with every process that it starts. It asks for chats, streams, completions, embeddings
and rerank, uploads a file, and even names a cloud platform in the settings. The last line is JSON:
`non_loopback` must be 0, and so must `files_elsewhere`: files outside the home, the temporary directory and
caches of compiled Python. Exits with 77 where strace or user namespaces are missing.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.serving import CHAT, EMBED, RERANK, SINGLE_THREADED, own_environment, store_directory

MISSING = 77
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
SETTINGS = """
[routing]
mode = "offline"
[[routing.platforms]]
name = "cloud"
api_base_url = "https://203.0.113.7/v1"
discover = true
health_seconds = 0.2
models = [{name = "big"}]
"""
CALL = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg|bind)\(\d+(?:<[^>]*>)?, .*?sa_family=(AF_\w+)(.*)")
FILE_CALLS = (
    "openat open creat mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 link linkat symlink "
    "symlinkat truncate chmod fchmodat mknod mknodat"
)
FILE_CALL = re.compile(rf"\b({'|'.join(FILE_CALLS.split())})\((.*)\) = (-?\d+)")
PATH = re.compile(r'(?:(AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
DEVICES = ("/dev/null", "/dev/tty", "/dev/ptmx", "/dev/pts/", "/proc/self/", "/proc/thread-self/")
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def main() -> int:
    return inside() if "--inside" in sys.argv else run()


def run() -> int:
    """The exit status."""
    return MISSING if is_missing() else without_network("tests.faults.offline", "--inside")


def is_missing() -> bool:
    """Whether this machine lacks what it takes, and says so."""
    if shutil.which("strace") is None:
        print("strace is not installed", file=sys.stderr)
        return True
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        print("this kernel gives no user namespaces", file=sys.stderr)
        return True
    return False


def without_network(module: str, *arguments: str) -> int:
    """The exit status of a module that runs in a network namespace of its own."""
    return subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", module, *arguments], check=False
    ).returncode


def inside() -> int:
    bring_up_loopback()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        home.mkdir()
        (home / "models").symlink_to(store_directory(), target_is_directory=True)
        (home / "hearth.toml").write_text(SETTINGS)
        trace = Path(directory) / "trace"
        asked = serve_and_ask(home, trace)
        figures = read_trace(trace) | read_files(trace, (directory, tempfile.gettempdir())) | asked
    print(json.dumps(figures))
    wrong = figures["non_loopback"] or figures["files_elsewhere"] or figures["wrong_answers"]
    return 1 if wrong else 0


def bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def serve_and_ask(home: Path, trace: Path) -> dict[str, Any]:
    flags = [
        word
        for line in (*SINGLE_THREADED, "pull=never", f"models={CHAT},{EMBED},{RERANK}")
        for word in ("--set", line)
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = [sys.executable, "-P", "-m", "appliance", "serve", "--port", str(port), *flags]
    process = subprocess.Popen([*strace(trace), *serve], env=own_environment(home), stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as http:
            wait_ready(http, process)
            statuses = ask_everything(http)
            sealed = http.get("/admin/v1/routing").json()["is_sealed"]
    finally:
        for server in psutil.Process(process.pid).children():  # strace ends when the server has
            server.send_signal(signal.SIGTERM)
        process.wait(60)
    wrong = [f"{path} {status}" for path, status in statuses if status != 200]
    return {"requests": len(statuses), "wrong_answers": len(wrong), "wrong": wrong, "is_sealed": sealed}


def wait_ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server is not ready")


def ask_everything(http: httpx.Client) -> list[tuple[str, int]]:
    chat = {"model": CHAT, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | {"stream": True}),
        ("/v1/chat/completions", chat | {"model": "auto"}),
        ("/v1/completions", {"model": CHAT, "prompt": "Once", "max_tokens": 4}),
        ("/v1/embeddings", {"model": EMBED, "input": ["one", "two"]}),
        ("/v1/rerank", {"model": RERANK, "query": "one", "documents": ["one", "two"]}),
        ("/v1/vector_stores", {"name": "base"}),
        ("/admin/v1/config/reload", {}),
        ("/v1/conversations", {}),
        ("/v1/chat/completions", chat | {"store": True}),
        ("/admin/v1/backups", {}),
        ("/admin/v1/audit/verify", {}),
    ]
    statuses = [(path, http.post(path, json=body).status_code) for path, body in bodies]
    statuses += [
        (path, http.get(path).status_code) for path in ("/v1/models", "/metrics", "/admin/v1/routing")
    ]
    file = http.post(
        "/v1/files", files={"file": ("a.txt", b"Berlin has inhabitants.")}, data={"purpose": "assistants"}
    )
    statuses.append(("/v1/files", file.status_code))
    time.sleep(1)  # what would be done in the background
    return statuses


def strace(trace: Path) -> list[str]:
    """The command in front of another, which writes to `trace` what that and its children call."""
    calls = ",".join(["socket,connect,sendto,sendmsg,sendmmsg,bind", *FILE_CALLS.split()])
    return [*"strace -f -qq -y -s 0 --seccomp-bpf".split(), "-e", f"trace={calls}", "-o", str(trace)]


def lines_of(trace: Path) -> Iterator[str]:
    with trace.open("r", encoding="utf-8", errors="replace") as file:
        yield from file


def read_trace(trace: Path, nobodys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Calls that name an internet address, and those of them that would leave this machine, but for addresses
    that begin as one of `nobodys`."""
    calls: dict[str, int] = {}
    elsewhere: list[str] = []
    count = documented = 0
    for count, line in enumerate(lines_of(trace), 1):  # noqa: B007 – the last one is told
        if (found := CALL.search(line)) is None or found[2] not in ("AF_INET", "AF_INET6"):
            continue
        address = next(filter(None, ADDRESS.search(line).groups()), "") if ADDRESS.search(line) else ""
        calls[found[1]] = calls.get(found[1], 0) + 1
        if address.startswith(nobodys) and nobodys:
            documented += 1
        elif not (address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")):
            elsewhere.append(line.strip()[:200])
    return {
        "traced_lines": count,
        "internet_calls": calls,
        "to_nobody": documented,
        "non_loopback": len(elsewhere),
        "elsewhere": elsewhere[:20],
    }


def read_files(trace: Path, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Files that were made, changed or removed, and which of them lie elsewhere."""
    made: set[str] = set()
    for line in lines_of(trace):
        found = FILE_CALL.search(line)
        if found is None or int(found[3]) < 0:
            continue
        if found[1] in ("open", "openat") and not WRITES.search(found[2]):
            continue
        named = PATH.findall(found[2])
        if found[1].startswith("symlink"):
            named = named[-1:]  # the first is what the link says, which is not touched
        for _, below, name in named:
            made.add(name if name.startswith("/") or not below else f"{below}/{name}")
    elsewhere = sorted(
        name for name in made if not name.startswith((*allowed, *DEVICES)) and "/__pycache__" not in name
    )
    return {"files_written": len(made), "files_elsewhere": len(elsewhere), "files": elsewhere[:20]}


if __name__ == "__main__":
    sys.exit(main())
