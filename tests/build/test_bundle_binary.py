"""dist/hearth as its user has it. `make binary` makes it; without it these tests skip."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from models.embedded import Embedded, open_embedded
from models.region import Region
from tests.faults.sound_pack import exported
from tests.tiny_model import tiny_gguf

EXECUTABLE = Path(__file__).parents[2] / "dist" / "hearth"
ANNOUNCEMENT = "OpenAI API: "

pytestmark = pytest.mark.skipif(
    not EXECUTABLE.exists(), reason="there is no dist/hearth; make it with make binary"
)


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    return open_embedded(EXECUTABLE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen") / "home"


def hearth(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.defpath, "HEARTH_HOME": str(home)}
    command = [str(EXECUTABLE), *words]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    with running(EXECUTABLE, home) as found:
        yield found


@contextlib.contextmanager
def running(executable: Path, home: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.defpath, "HEARTH_HOME": str(home), "HEARTH_PULL": "never"}
    words = [
        str(executable),
        "serve",
        "--port",
        "0",
        "--set",
        "generator.threads=1",
        "--set",
        "encoder.threads=1",
    ]
    with subprocess.Popen(words, env=environment, cwd=home, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next((line for line in process.stderr if line.startswith(ANNOUNCEMENT)), None)
            assert line is not None, "the server ended before it announced its address"
            address = line.removeprefix(ANNOUNCEMENT).split()[0].removesuffix("/v1")
            with httpx.Client(base_url=address, timeout=60) as http:
                wait_ready(http)
                yield http, psutil.Process(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def wait_ready(http: httpx.Client) -> None:
    for _ in range(600):
        if http.get("/readyz").status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("not ready after a minute")


def test_it_says_its_version(home: Path, embedded: Embedded) -> None:
    done = hearth(home, "version")
    assert (done.stdout, done.returncode) == (f"hearth {embedded.table.version}\n", 0), done.stderr


def test_every_part_is_sound(embedded: Embedded) -> None:
    assert {verdict.state for verdict in embedded.verify()} == {"sound"}


def test_it_chats_and_embeds(served: tuple[httpx.Client, psutil.Process], embedded: Embedded) -> None:
    http, _ = served
    roles = {model.manifest.role: model.name for model in embedded.list()}
    request = {"model": roles["chat"], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    answer = http.post("/v1/chat/completions", json=request).raise_for_status().json()
    assert answer["usage"]["completion_tokens"] > 0
    answer = http.post("/v1/embeddings", json={"model": roles["embed"], "input": "Hello"}).raise_for_status()
    assert (
        len(answer.json()["data"][0]["embedding"]) == embedded.get(roles["embed"]).manifest.pooling.dimensions
    )  # type: ignore[union-attr]


def test_the_weights_are_mapped_where_they_lie(
    served: tuple[httpx.Client, psutil.Process], embedded: Embedded
) -> None:
    _, process = served
    chat = next(model for model in embedded.list() if model.manifest.role == "chat")
    weights = embedded.extent(chat.name, "model.gguf")
    mapped = []
    for worker in process.children():
        for line in Path(f"/proc/{worker.pid}/maps").read_text().splitlines():
            if line.endswith(str(EXECUTABLE)):
                addresses, _, offset, *_ = line.split()
                begin, end = (int(word, 16) for word in addresses.split("-"))
                mapped.append((int(offset, 16), int(offset, 16) + end - begin))
    inside = [
        end - begin
        for begin, end in mapped
        if begin >= weights.start and end <= weights.start + weights.length + 4096
    ]
    assert sum(inside) > 0.8 * weights.length


def test_nothing_of_the_models_is_unpacked(
    served: tuple[httpx.Client, psutil.Process], home: Path, embedded: Embedded
) -> None:
    sizes = [path.lstat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    with Region(EXECUTABLE, embedded.program().start, 40) as region:
        unpacked = int.from_bytes(region.read(24, 8), "little")
    assert unpacked <= sum(sizes) <= 1.1 * unpacked
    assert not {part.bytes for part in embedded.table.files} & set(sizes)


def test_the_bundle_command_reads_it(home: Path, embedded: Embedded) -> None:
    done = hearth(home, "bundle", "list", str(EXECUTABLE))
    assert done.returncode == 0, done.stderr
    assert all(model.name in done.stdout for model in embedded.list())
    assert hearth(home, "bundle", "verify", str(EXECUTABLE)).returncode == 0


def test_it_is_signed(home: Path, embedded: Embedded) -> None:
    signer = embedded.require_signer()
    assert signer in hearth(home, "bundle", "list", str(EXECUTABLE)).stdout


def test_it_makes_a_new_one_with_a_model_and_a_knowledge_base(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(tiny_gguf())
    (tmp_path / "base.zip").write_bytes(exported())
    words = ["--add", str(tmp_path / "own.gguf"), "--kb", str(tmp_path / "base.zip")]
    made = tmp_path / "my-hearth"
    done = hearth(tmp_path / "home", "bundle", *words, "--output", str(made))
    assert done.returncode == 0, done.stderr
    assert hearth(tmp_path / "home", "bundle", "verify", str(made)).returncode == 0
    shutil.rmtree(tmp_path / "home")
    with running(made, tmp_path / "home") as (http, _):
        names = {card["id"] for card in http.get("/v1/models").json()["data"]}
        assert "own" in names
        base = wait_for_base(http)
        found = http.post(f"/v1/vector_stores/{base}/search", json={"query": "Which valve is opened first?"})
        assert "Valve 42" in found.json()["data"][0]["content"][0]["text"]


def wait_for_base(http: httpx.Client) -> str:
    for _ in range(600):
        for base in http.get("/v1/vector_stores").json()["data"]:
            if base["file_counts"]["completed"] == 1:
                return str(base["id"])
        time.sleep(0.1)
    raise AssertionError("the knowledge base was not taken in within a minute")
