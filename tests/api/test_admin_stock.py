"""Models from a disk or stick into a running server, through the typed client."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.admin import ModelJob
from appliance.client import Client, RemoteError
from models.store import Store
from tests.conftest import require
from tests.serving import CHAT, EMBED, share_files, store_directory
from tests.tiny_model import tiny_gguf
from tests.tiny_server import StartTiny, TinyServer


@pytest.fixture
def tiny(start_tiny: StartTiny) -> TinyServer:
    return start_tiny(room_for=3)


@pytest.fixture
def client(tiny: TinyServer) -> Iterator[Client]:
    with Client(tiny.url) as client:
        yield client


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A folder as somebody brings it: a model, a damaged one, and other things."""
    root = tmp_path / "stick"
    (root / "photos").mkdir(parents=True)
    (root / "dan.gguf").write_bytes(tiny_gguf(7, "dan"))
    (root / "broken.gguf").write_bytes(tiny_gguf(8, "broken")[:600])
    (root / "notes.txt").write_text("nothing")
    return root


def stored(tiny: TinyServer) -> set[Path]:
    """Every file of the model store but its lock."""
    files = (path for path in (tiny.home / "models").rglob("*") if path.is_file())
    return {path for path in files if path.name != "lock"}


def ended(client: Client, job: ModelJob) -> ModelJob:
    ends_at = time.monotonic() + 30
    while (job := client.model_job(job.id)).state == "running":
        assert time.monotonic() < ends_at, job
        time.sleep(0.02)
    return job


def test_a_folder_shows_its_models_and_folders(client: Client, stick: Path) -> None:
    found = client.folder(str(stick))
    assert [model.name for model in found.models] == ["broken", "dan"]
    assert found.models[1].bytes == (stick / "dan.gguf").stat().st_size
    assert found.folders == (str(stick / "photos"),)
    assert (found.path, found.parent, found.is_cut) == (str(stick), str(stick.parent), False)


def test_a_model_is_brought_in_and_answers_without_a_restart(
    tiny: TinyServer, client: Client, stick: Path
) -> None:
    job = ended(client, client.import_model(str(stick / "dan.gguf")))
    assert (job.state, job.model, job.is_served, job.error) == ("done", "dan", True, None), job
    assert job.done == job.total == (stick / "dan.gguf").stat().st_size
    assert client.model_status("dan").state == "unloaded"
    assert tiny.ask("dan").status_code == 200
    assert client.model_status("dan").state == "ready"
    assert client.model_jobs()[0] == job


def test_the_catalogue_says_what_is_here_and_why_nothing_is_fetched(client: Client) -> None:
    found = client.catalogue()
    assert "offline" in found.refusal
    models = {model.name: model for model in found.data}
    assert models["smollm2-135m-instruct"].packs == ("tiny",)
    assert not models["smollm2-135m-instruct"].is_here
    for ask in (lambda: client.fetch_model("smollm2-135m-instruct"), lambda: client.fetch_pack("tiny")):
        with pytest.raises(RemoteError) as raised:
            ask()
        assert raised.value.detail_code == "forbidden"
    assert client.model_jobs() == ()


@pytest.mark.parametrize("body", [{}, {"model": "ada", "pack": "tiny"}, {"model": ""}, {"models": "ada"}])
def test_a_fetch_names_one_thing(tiny: TinyServer, body: dict[str, str]) -> None:
    assert tiny.http.post("/admin/v1/models/fetch", json=body).status_code == 400


def test_a_model_of_the_catalogue_is_fetched_and_answers(start_tiny: StartTiny) -> None:
    """Its files are in the store already, so that nothing has to leave this machine."""
    require((CHAT,))
    tiny = start_tiny("routing.mode=hybrid", "pull=missing", "generator.memory=0")
    share_files(CHAT, Store(tiny.home / "models"))
    with Client(tiny.url) as client:
        assert client.catalogue().refusal == ""
        with pytest.raises(RemoteError, match="nobody"):
            client.fetch_model("nobody")
        job = ended(client, client.fetch_model(CHAT))
        assert (job.state, job.kind, job.model, job.is_served, job.error) == (
            "done",
            "fetch",
            CHAT,
            True,
            None,
        )
        assert {model.name for model in client.catalogue().data if model.is_here} == {CHAT}
        assert tiny.ask(CHAT).status_code == 200


def test_a_model_that_waits_for_a_restart_is_told_so(client: Client, tmp_path: Path) -> None:
    require([EMBED])
    installed = Store(store_directory())
    for file in ("model.onnx", "tokenizer.json"):
        (tmp_path / "embedder").mkdir(exist_ok=True)
        shutil.copy(installed.path(EMBED, file), tmp_path / "embedder" / file)
    job = ended(client, client.import_model(str(tmp_path / "embedder")))
    assert (job.state, job.is_served) == ("done", False), job
    assert job.notices[-1] == "embedder is installed, and served from the server's next start on"


def test_the_files_of_a_model_are_verified(tiny: TinyServer, client: Client) -> None:
    assert ended(client, client.verify_model("ada")).state == "done"
    blob = next(path for path in (tiny.home / "models" / "blobs").iterdir())
    blob.chmod(0o600)
    damaged = bytearray(blob.read_bytes())
    damaged[-1] ^= 1
    blob.write_bytes(damaged)
    jobs = [ended(client, client.verify_model(name)) for name in ("ada", "bob", "cyd")]
    failed = [job for job in jobs if job.state == "failed"]
    assert len(failed) == 1
    assert "model.gguf is damaged" in (failed[0].error or "")


@pytest.mark.parametrize(
    ("path", "words"),
    [("relative/model.gguf", "whole path"), ("/nowhere/at/all.gguf", "there is no /nowhere/at/all.gguf")],
)
def test_a_path_that_leads_nowhere_is_refused_at_once(client: Client, path: str, words: str) -> None:
    with pytest.raises(RemoteError, match=words) as refused:
        client.import_model(path)
    assert refused.value.param == "path"


def test_what_is_no_model_fails_with_the_reason_and_leaves_nothing(
    tiny: TinyServer, client: Client, stick: Path
) -> None:
    before = stored(tiny)
    for name in ("broken.gguf", "notes.txt"):
        job = ended(client, client.import_model(str(stick / name)))
        assert job.state == "failed"
        assert name in (job.error or "")
    assert stored(tiny) == before


def test_a_job_that_is_over_stays_as_it_is(client: Client, stick: Path) -> None:
    job = ended(client, client.import_model(str(stick / "dan.gguf")))
    assert client.cancel_model_job(job.id) == job
    with pytest.raises(RemoteError, match="there is no job"):
        client.cancel_model_job("job-unknown")


def test_a_copy_under_way_is_cancelled_and_leaves_nothing(
    tiny: TinyServer, client: Client, stick: Path
) -> None:
    before = stored(tiny)
    with (stick / "dan.gguf").open("r+b") as model:
        model.truncate(2 << 30)  # takes no room here, and long to copy and hash
    job = client.import_model(str(stick / "dan.gguf"))
    while (under_way := client.model_job(job.id)).state == "running" and not under_way.done:
        time.sleep(0.01)
    client.cancel_model_job(job.id)
    assert ended(client, job).state == "cancelled"
    assert stored(tiny) == before


def test_a_folder_that_cannot_be_read_is_told(client: Client, stick: Path) -> None:
    with pytest.raises(RemoteError, match="Not a directory"):
        client.folder(str(stick / "notes.txt"))
