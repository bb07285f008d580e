"""Tries everything on itself: starts a server in a home of its own and asks it on every surface, as clients
do.

Each check is one sentence about what must hold, and a `Check` says whether it did. In the server and in all
its workers the kernel must refuse new network sockets, and none may ever hold a socket that leaves loopback.
Knows HTTP and processes; knows no server room.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from appliance import paths
from appliance.errors import HearthError, SetupError
from appliance.security.egress import is_loopback

ANNOUNCEMENT = "OpenAI API: "
START_SECONDS = 180.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
SEALED = "2"  # SECCOMP_MODE_FILTER in /proc/<pid>/status

PASSAGE = (
    "The pump in hall seven is called Marigold. Before Marigold is started, valve 42 must be opened by hand, "
    "and the pressure must be below three bar."
)
QUESTION = "Which valve must be opened before Marigold is started?"


class Check(NamedTuple):
    """What was tried, how long it took, and what was wrong; `problem` is empty when nothing was."""

    name: str
    seconds: float
    problem: str = ""


class SelfTestFailure(HearthError):
    """A check did not hold."""


class Subject:
    """The server under test: a context manager that starts it and stops it."""

    def __init__(self, home: Path, settings: Sequence[str]) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HEARTH_")}
        environment |= {"HEARTH_HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1"}
        if bundle := paths.bundle():
            environment["HEARTH_BUNDLE"] = str(bundle)
        elif models := _installed_models():
            (home / "models").symlink_to(models, target_is_directory=True)
        flags = (*settings, "routing.mode=offline", "pull=never", "log_level=warning")
        command = [*paths.self_command(), "serve", "--port", "0"]
        self._process = subprocess.Popen(
            [*command, *(word for flag in flags for word in ("--set", flag))],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._lines: list[str] = []
        self._announced: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def connect(self) -> httpx.Client:
        """A client, once the server listens. Raises SetupError with its last words when it does not."""
        announced = None
        with contextlib.suppress(queue.Empty):
            announced = self._announced.get(timeout=START_SECONDS)
        if announced is None:
            raise SetupError(
                f"the server did not start: {''.join(self._lines[-5:]).strip() or 'it said nothing'}"
            )
        address = announced.removesuffix("/v1")
        return httpx.Client(base_url=address, timeout=START_SECONDS, trust_env=False)

    def processes(self) -> list[psutil.Process]:
        """The server and all it has started."""
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def stop(self) -> int:
        """End it as a service manager does; its exit status."""
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if line.startswith(ANNOUNCEMENT):
                self._announced.put(line.removeprefix(ANNOUNCEMENT).split()[0])
        self._announced.put(None)


def _installed_models() -> Path | None:
    models = paths.models(paths.home())
    return models if models.is_dir() else None


class Trial:
    """One run: the subject, a client of it, and the models it serves."""

    def __init__(self, subject: Subject, http: httpx.Client) -> None:
        self.subject, self.http = subject, http
        self.chat = self.embed = self.rerank = ""
        self.base = ""

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises SelfTestFailure for anything but a 200 with JSON."""
        return self._json(self.http.post(path, json=body))

    def get(self, path: str) -> dict[str, Any]:
        return self._json(self.http.get(path))

    @staticmethod
    def _json(response: httpx.Response) -> dict[str, Any]:
        require(response.status_code == 200, f"{response.status_code}: {response.text[:300]}")
        found: dict[str, Any] = response.json()
        return found


def run(settings: Sequence[str] = ()) -> Iterator[Check]:
    """Every check, as it is done. A server that does not start is one failed check, and the last.

    `settings`: further ones for that server, as KEY=VALUE.
    """
    cache = paths.cache()  # a bare machine may have no other place to write to
    cache.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="selftest-", dir=cache) as directory,
        Subject(Path(directory), settings) as subject,
    ):
        started = time.monotonic()
        try:
            http = subject.connect()
        except HearthError as error:
            yield Check("the server starts", time.monotonic() - started, error.message)
            return
        with http:
            trial = Trial(subject, http)
            for check in CHECKS:
                yield _done(check, trial)
        yield _done(_it_stops, trial)


def _done(check: Callable[[Trial], None], trial: Trial) -> Check:
    name = (check.__doc__ or "").strip().rstrip(".")
    started = time.monotonic()
    try:
        check(trial)
    except HearthError as error:
        return Check(name, time.monotonic() - started, error.message)
    except (httpx.HTTPError, KeyError, IndexError, ValueError, TypeError, OSError, psutil.Error) as error:
        return Check(name, time.monotonic() - started, f"{type(error).__name__}: {error}")
    return Check(name, time.monotonic() - started)


def require(holds: object, problem: str) -> None:
    if not holds:
        raise SelfTestFailure(problem)


def _it_becomes_ready(trial: Trial) -> None:
    """the server is ready"""
    ends_at = time.monotonic() + START_SECONDS
    while trial.http.get("/readyz").status_code != 200:
        require(time.monotonic() < ends_at, f"not ready after {START_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _models(trial: Trial) -> None:
    """/v1/models lists a chat model and an embedder"""
    roles = {card["role"]: card["id"] for card in reversed(trial.get("/v1/models")["data"])}
    require({"chat", "embed"} <= set(roles), f"there are only models for {', '.join(sorted(roles))}")
    trial.chat, trial.embed, trial.rerank = roles["chat"], roles["embed"], roles.get("rerank", "")


def _chat(trial: Trial) -> None:
    """/v1/chat/completions answers"""
    found = trial.ask("/v1/chat/completions", _conversation(trial, max_tokens=8))
    require(found["choices"][0]["message"]["content"].strip(), "the answer is empty")
    require(found["usage"]["completion_tokens"] > 0, "no token was counted")


def _chat_stream(trial: Trial) -> None:
    """/v1/chat/completions streams"""
    events = _events(trial, "/v1/chat/completions", _conversation(trial, max_tokens=8, stream=True))
    require(events[-1] == "[DONE]", f"the stream ended with {events[-1][:100]}")
    require(len(events) > 3, f"the stream had {len(events)} events only")


def _schema(trial: Trial) -> None:
    """/v1/chat/completions keeps to a JSON schema"""
    schema = {
        "type": "object",
        "properties": {"valve": {"type": "integer"}},
        "required": ["valve"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    found = trial.ask("/v1/chat/completions", _conversation(trial, max_tokens=40, response_format=form))
    answer = json.loads(found["choices"][0]["message"]["content"])
    require(isinstance(answer["valve"], int) and len(answer) == 1, f"the answer was {answer}")


def _completions(trial: Trial) -> None:
    """/v1/completions continues"""
    found = trial.ask("/v1/completions", {"model": trial.chat, "prompt": "One, two,", "max_tokens": 6})
    require(found["choices"][0]["text"], "the answer is empty")


def _responses(trial: Trial) -> None:
    """/v1/responses answers"""
    body = {"model": trial.chat, "input": "Say hello.", "max_output_tokens": 16, "store": False}
    found = trial.ask("/v1/responses", body)
    texts = [
        part["text"] for item in found["output"] if item["type"] == "message" for part in item["content"]
    ]
    require("".join(texts).strip(), "the answer is empty")


def _messages(trial: Trial) -> None:
    """/v1/messages answers, as Anthropic has it"""
    body = {"model": trial.chat, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    require(trial.ask("/v1/messages", body)["content"][0]["text"].strip(), "the answer is empty")


def _ollama(trial: Trial) -> None:
    """/api/chat answers, as Ollama has it"""
    body = {
        "model": trial.chat,
        "stream": False,
        "messages": [{"role": "user", "content": "Say hello."}],
        "options": {"num_predict": 8},
    }
    require(trial.ask("/api/chat", body)["message"]["content"].strip(), "the answer is empty")


def _embeddings(trial: Trial) -> None:
    """/v1/embeddings tells related from unrelated"""
    texts = ["A cat sat on the mat.", "A kitten lay on a rug.", "The invoice is due in March."]
    found = trial.ask("/v1/embeddings", {"model": trial.embed, "input": texts})
    cat, kitten, invoice = (each["embedding"] for each in found["data"])
    near, far = _product(cat, kitten), _product(cat, invoice)
    require(near > far, f"the related texts have {near:.3f}, the others {far:.3f}")


def _rerank(trial: Trial) -> None:
    """/v1/rerank finds the answer, or says that there is no such model"""
    documents = ["Berlin is well known for its museums.", "Berlin has 3.5 million inhabitants."]
    body = {
        "model": trial.rerank or "none",
        "query": "How many people live in Berlin?",
        "documents": documents,
    }
    if not trial.rerank:
        status = trial.http.post("/v1/rerank", json=body).status_code
        require(status == 404, f"without a model for it the status is {status}")
        return
    require(trial.ask("/v1/rerank", body)["results"][0]["index"] == 1, "the wrong document came first")


def _ingest(trial: Trial) -> None:
    """/v1/files and /v1/vector_stores take a document in"""
    upload = {"file": ("pumps.md", f"# Pumps\n\n{PASSAGE}\n".encode())}
    file = (
        trial.http.post("/v1/files", data={"purpose": "assistants"}, files=upload).raise_for_status().json()
    )
    trial.base = trial.ask("/v1/vector_stores", {"name": "selftest"})["id"]
    path = f"/v1/vector_stores/{trial.base}/files"
    trial.ask(path, {"file_id": file["id"]})
    ends_at = time.monotonic() + START_SECONDS
    while (found := trial.get(f"{path}/{file['id']}"))["status"] == "in_progress":
        require(time.monotonic() < ends_at, "the document is still not read")
        time.sleep(POLL_SECONDS)
    require(found["status"] == "completed", f"the document is {found['status']}: {found['last_error']}")


def _search(trial: Trial) -> None:
    """/v1/vector_stores finds the passage"""
    found = trial.ask(f"/v1/vector_stores/{trial.base}/search", {"query": QUESTION})
    require("valve 42" in found["data"][0]["content"][0]["text"], "another passage came first")


def _cited_answer(trial: Trial) -> None:
    """an answer from the knowledge base cites its document"""
    body = {"model": f"{trial.chat}@selftest", "messages": [{"role": "user", "content": QUESTION}]}
    # Held to a form: whether a small model cites by itself is a matter of its mood.
    form = {"max_tokens": 60, "temperature": 0, "regex": r"Valve [0-9]{2} must be opened first \[1\]\."}
    message = trial.ask("/v1/chat/completions", body | form)["choices"][0]["message"]
    cited = [note["file_citation"]["filename"] for note in message.get("annotations") or ()]
    require("pumps.md" in cited, f"it cites {cited or 'nothing'}: {message['content'][:200]}")


def _no_network_socket(trial: Trial) -> None:
    """no process of the server may open a network socket, and none has one beyond loopback"""
    for process in trial.subject.processes():
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            mode = _seccomp_mode(process.pid)
            require(mode == SEALED, f"process {process.pid} ({process.name()}) is not sealed (mode {mode})")
            for connection in process.net_connections("inet"):
                for address in (connection.laddr, connection.raddr):
                    require(not address or is_loopback(address[0]), f"process {process.pid} has {connection}")
    found = trial.get("/admin/v1/routing")
    require(found["is_sealed"], "the server says that it is not sealed")
    require(found["refused_egress"] == 0, f"{found['refused_egress']} attempts to leave were refused")


def _it_stops(trial: Trial) -> None:
    """the server stops when it is told to"""
    status = trial.subject.stop()
    require(status == 0, f"it ended with status {status}")


CHECKS = (
    _it_becomes_ready,
    _models,
    _chat,
    _chat_stream,
    _schema,
    _completions,
    _responses,
    _messages,
    _ollama,
    _embeddings,
    _rerank,
    _ingest,
    _search,
    _cited_answer,
    _no_network_socket,
)


def _conversation(trial: Trial, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Which valve is opened first? Valve 42."}]
    return {"model": trial.chat, "messages": messages, "temperature": 0, **options}


def _events(trial: Trial, path: str, body: dict[str, Any]) -> list[str]:
    with trial.http.stream("POST", path, json=body) as response:
        require(response.status_code == 200, f"{response.status_code}")
        return [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]


def _product(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _seccomp_mode(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith("Seccomp:")), "")
