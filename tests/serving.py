"""A real Hearth for the tests: the program as a user starts it, in a home of its own, on loopback.

Knows processes and readiness, not what a test asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil

from appliance import paths
from models.store import Installed, Store

CHAT = "smollm2-135m-instruct"
EMBED = "all-minilm-l6-v2"
MULTILINGUAL = "multilingual-e5-small"
RERANK = "ms-marco-minilm-l-12-v2"

START_SECONDS = 120
# One thread per engine: two engines that spin on two cores which others use too are many times slower.
SINGLE_THREADED = ("generator.threads=1", "encoder.threads=1")
ANNOUNCEMENT = "OpenAI API: "


def store_directory() -> Path:
    """The installed models: `$HEARTH_TEST_MODELS`, else the default home's."""
    return Path(os.environ.get("HEARTH_TEST_MODELS") or paths.models(paths.home()))


def missing_models(names: Iterable[str]) -> list[str]:
    """Which of `names` the store does not hold whole."""
    store = Store(store_directory())
    installed = {model.name: model for model in store.list()}
    return [
        name
        for name in names
        if name not in installed or not all(store.holds(file) for file in installed[name].manifest.files)
    ]


def share_files(name: str, own: Store) -> Installed:
    """The files of a model of the tests lie in `own` too, without a copy where that goes; no record of it."""
    shared = Store(store_directory())
    model = shared.get(name)
    for file in model.manifest.files:
        try:
            os.link(shared.blob(file.sha256), own.blob(file.sha256))
        except OSError:
            shutil.copyfile(shared.blob(file.sha256), own.blob(file.sha256))
    return model


def own_environment(home: Path) -> dict[str, str]:
    """This environment without its own HEARTH_ settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    return inherited | {"HEARTH_HOME": str(home), "PYTHONUNBUFFERED": "1"}


class Served:
    """A running `hearth serve`. Use `wait_ready` before asking a model, and `stop` at the end.

    A home that has models already keeps them; another one sees those that all tests share. `program`: another
    than the one these tests run in.
    """

    def __init__(
        self,
        home: Path,
        models: Iterable[str],
        settings: Iterable[str] = (),
        *,
        program: list[str] | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        if not (home / "models").exists():
            (home / "models").symlink_to(store_directory(), target_is_directory=True)
        roots = f"access.folder_roots={tempfile.gettempdir()}"
        lines = [*SINGLE_THREADED, "pull=never", f"models={','.join(models)}", roots, *settings]
        flags = [word for line in lines for word in ("--set", line)]
        self.process = subprocess.Popen(
            [*(program or paths.self_command()), "serve", "--port", "0", *flags],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=own_environment(home),
        )
        self.lines: list[str] = []
        self._announced: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.url = self._wait_for_address()
        self.http = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def _wait_for_address(self) -> str:
        announced = None
        with contextlib.suppress(queue.Empty):
            announced = self._announced.get(timeout=START_SECONDS)
        if announced is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not start:\n{self.log}")
        return announced.removesuffix("/v1")

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line)
                if line.startswith(ANNOUNCEMENT):
                    self._announced.put(line.removeprefix(ANNOUNCEMENT).split()[0])
        self._announced.put(None)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    # Looking inside

    def is_ready(self) -> bool:
        return self.http.get("/readyz").status_code == 200

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        self.wait_until(self.is_ready, seconds)

    def wait_until(self, holds: Any, seconds: float) -> None:
        """Asks `holds` again and again; fails with the server's log when it never does."""
        ends_at = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends_at, f"not within {seconds} s; the server's log:\n{self.log}"
            time.sleep(0.02)

    def worker(self, role: str) -> psutil.Process:
        """The process of the worker of `role`. Raises LookupError when there is none just now."""
        for child in psutil.Process(self.process.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[-4:-2] == ["worker", role]:
                return child
        raise LookupError(f"there is no {role} process")

    def has_new_worker(self, role: str, old: psutil.Process) -> bool:
        try:
            return self.worker(role) != old
        except (LookupError, psutil.NoSuchProcess, IndexError):
            return False

    def figure(self, name: str, worker: str = CHAT) -> float:
        """A worker's gauge from /metrics; 0 when it has none yet."""
        wanted = f'{name}{{worker="{worker}"}} '
        lines = self.http.get("/metrics").text.splitlines()
        return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), 0.0)

    # Asking

    def chat(self, content: str = "Say hello.", **parameters: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat_body(content, **parameters))

    # Ending

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60) -> None:
        """Ends the server in order; fails unless it leaves with status 0 and no process behind."""
        self.http.close()
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(how)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log}") from None
        assert status == 0, f"exit status {status}; the server's log:\n{self.log}"
        _, left = psutil.wait_procs(family, timeout=1)
        assert not left, f"processes are left: {left}"

    def end(self) -> None:
        """Ends the server however it stands; for tests that have ended it themselves, or failed."""
        self.http.close()
        if self.process.poll() is not None:
            return
        if "COVERAGE_PROCESS_CONFIG" in os.environ:  # what is killed cannot tell what it has covered
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.process.kill()
        self.process.wait()


def chat_body(content: str = "Say hello.", **parameters: Any) -> dict[str, Any]:
    return {"model": CHAT, "messages": [{"role": "user", "content": content}], **parameters}


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The stream's JSON events; fails unless it is well formed and ends with [DONE]."""
    events, is_done = parse_events(response.read())
    assert is_done, f"the stream does not end with [DONE]: {events[-1:]}"
    return events


def parse_events(raw: bytes) -> tuple[list[dict[str, Any]], bool]:
    """All `data:` events of a whole stream, without its comments, and whether [DONE] was its last."""
    assert raw.endswith(b"\n\n"), raw[-80:]
    blocks = [block for block in raw.removesuffix(b"\n\n").split(b"\n\n") if not block.startswith(b": ")]
    assert all(block.startswith(b"data: ") for block in blocks), blocks
    is_done = blocks[-1] == b"data: [DONE]"
    texts = [block.removeprefix(b"data: ").decode("utf-8") for block in blocks]
    return [json.loads(text) for text in (texts[:-1] if is_done else texts)], is_done


def text_of(events: Iterable[dict[str, Any]], choice: int = 0) -> str:
    """A choice's whole text, of a chat stream or a completion stream."""
    parts = [each for event in events for each in event["choices"] if each["index"] == choice]
    return "".join(part["text"] if "text" in part else part["delta"].get("content", "") for part in parts)
