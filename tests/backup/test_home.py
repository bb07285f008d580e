"""A home in use put into one file, and back: nothing half, nothing of another moment or place."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.backup.making import make_backup
from appliance.backup.manifest import MANIFEST, checked_name
from appliance.backup.reading import check_backup, read_manifest
from appliance.backup.restoring import JOURNAL, STAGING, finish_restore, restore
from appliance.errors import Conflict, InvalidValue, NotFound, SetupError
from appliance.store.lock import HomeLock
from tests.commands import run_hearth
from tests.conftest import StartServer
from tests.serving import Served


def small_home(directory: Path) -> Path:
    home = directory / "home"
    (home / "config-history").mkdir(parents=True)
    (home / "hearth.toml").write_text("port = 9000\n")
    (home / "config-history" / "00000001.json").write_text("{}")
    (home / "cache").mkdir()
    (home / "cache" / "big").write_bytes(b"x" * 1000)
    (home / "knowledge").mkdir()
    (home / "knowledge" / "lock").write_text("1")
    return home


def upload(server: Served, name: str, content: bytes) -> str:
    answer = server.http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def contents(http: httpx.Client) -> dict[str, bytes]:
    """Every file's bytes by its name, as the server gives them."""
    listed = http.get("/v1/files", params={"limit": 10_000}).json()["data"]
    return {each["filename"]: http.get(f"/v1/files/{each['id']}/content").content for each in listed}


@pytest.mark.slow
def test_a_home_in_use_is_backed_up_and_served_again(start_server: StartServer, tmp_path: Path) -> None:
    """Files come and go all the time: each backup has the moment of its databases, whole."""
    server = start_server("archive.enabled=true")
    kept = {f"kept-{n}.txt": os.urandom(2000) for n in range(20)}
    for name, content in kept.items():
        upload(server, name, content)
    chat = server.chat("hello", max_tokens=3, store=True)
    assert chat.status_code == 200
    is_over = threading.Event()
    faults: list[str] = []

    def churn() -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            number = 0
            while not is_over.is_set():
                number += 1
                answer = http.post(
                    "/v1/files",
                    files={"file": (f"passing-{number}.txt", f"passing {number}".encode())},
                    data={"purpose": "assistants"},
                )
                if answer.status_code != 200:
                    faults.append(answer.text)
                elif number % 2:
                    http.delete(f"/v1/files/{answer.json()['id']}")

    churning = threading.Thread(target=churn)
    churning.start()
    backups = []
    try:
        for number in range(4):
            backups.append(tmp_path / f"{number}.tar")
            done = run_hearth("backup", str(backups[-1]), home=server.home)
            assert done.returncode == 0, done.stderr
        made = server.http.post("/admin/v1/backups", json={})
        assert made.status_code == 200, made.text
        assert server.http.get("/admin/v1/backups").json()["data"][0]["files"] > 20
    finally:
        is_over.set()
        churning.join()
    assert not faults
    refused = run_hearth("restore", str(backups[0]), home=server.home)
    assert refused.returncode == 1
    assert "a server uses" in refused.stderr
    server.stop()
    for number, backup in enumerate(backups):
        assert backup.stat().st_mode & 0o077 == 0, "as secret as the home"
        home = tmp_path / f"again-{number}"
        done = run_hearth("restore", str(backup), home=home)
        assert done.returncode == 0, done.stderr
    again = start_server(home=tmp_path / "again-3")
    found = contents(again.http)
    assert found.items() >= kept.items()
    for name, content in found.items():
        if name.startswith("passing"):
            assert content == f"passing {name.removeprefix('passing-').removesuffix('.txt')}".encode()
    assert again.http.get(f"/v1/chat/completions/{chat.json()['id']}").status_code == 200
    again.stop()


def test_what_can_be_made_again_is_left_out(tmp_path: Path) -> None:
    manifest = make_backup(small_home(tmp_path), tmp_path / "backup.tar")
    assert [entry.path for entry in manifest.entries] == ["config-history/00000001.json", "hearth.toml"]
    assert check_backup(tmp_path / "backup.tar") == manifest
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_backup_replaces_no_file(tmp_path: Path) -> None:
    home = small_home(tmp_path)
    make_backup(home, tmp_path / "backup.tar")
    with pytest.raises(Conflict, match="there already"):
        make_backup(home, tmp_path / "backup.tar")


def test_a_restore_brings_back_what_was_and_keeps_what_is(tmp_path: Path) -> None:
    home = small_home(tmp_path)
    make_backup(home, tmp_path / "backup.tar")
    (home / "hearth.toml").write_text("port = 1\n")
    (home / "later").mkdir()
    (home / "later" / "file").write_text("new")
    (home / "models").mkdir()
    (home / "models" / "weights").write_text("large")
    _, before = restore(home, tmp_path / "backup.tar")
    assert (home / "hearth.toml").read_text() == "port = 9000\n"
    assert not (home / "later").exists(), "it was not there then"
    assert (before / "later" / "file").read_text() == "new"
    assert (before / "hearth.toml").read_text() == "port = 1\n"
    assert (home / "models" / "weights").read_text() == "large", "models that are not in it stay"
    assert not (home / JOURNAL).exists()
    assert not (home / STAGING).exists()


def test_models_are_taken_along_on_demand(tmp_path: Path) -> None:
    home = small_home(tmp_path)
    (home / "models" / "blobs").mkdir(parents=True)
    (home / "models" / "blobs" / "a").write_bytes(b"weights")
    manifest = make_backup(home, tmp_path / "backup.tar", models=True)
    assert manifest.models
    restore(tmp_path / "other", tmp_path / "backup.tar")
    assert (tmp_path / "other" / "models" / "blobs" / "a").read_bytes() == b"weights"


@pytest.mark.parametrize("steps", range(8))
def test_a_restore_that_is_interrupted_is_finished_at_the_next_start(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after any number of its renames."""
    home = small_home(tmp_path)
    make_backup(home, tmp_path / "backup.tar")
    (home / "hearth.toml").write_text("port = 1\n")
    real, left = Path.rename, [steps]

    class Killed(BaseException):
        pass

    def rename(self: Path, target: Any) -> Any:
        if self.name != f"{JOURNAL}.partial":
            if not left[0]:
                raise Killed
            left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    try:
        restore(home, tmp_path / "backup.tar")
    except Killed:
        assert (home / JOURNAL).exists()
    monkeypatch.undo()
    finish_restore(home)
    assert (home / "hearth.toml").read_text() == "port = 9000\n"
    assert (home / "config-history" / "00000001.json").read_text() == "{}"
    assert not (home / JOURNAL).exists()
    (before,) = home.glob("before-restore-*")
    assert (before / "hearth.toml").read_text() == "port = 1\n"


def test_a_restore_and_a_server_exclude_each_other(tmp_path: Path) -> None:
    home = small_home(tmp_path)
    make_backup(home, tmp_path / "backup.tar")
    one, other = HomeLock(home), HomeLock(home)
    with pytest.raises(SetupError, match="a server uses"):
        restore(home, tmp_path / "backup.tar")
    one.release()
    other.release()
    alone = HomeLock(home, alone=True)
    with pytest.raises(SetupError, match="being restored"):
        HomeLock(home)
    alone.release()


def rewritten(source: Path, target: Path, change: Any) -> None:
    """The backup with other members: `change` takes and gives a list of names and contents."""
    with tarfile.open(source) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(target, "w") as tar:
        for name, content in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)

            tar.addfile(info, io.BytesIO(content))


def _without_manifest(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return members[:-1]


def _without_a_file(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return members[1:]


def _with_a_file(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [("extra", b"x"), *members]


def _with_other_bytes(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(name, b"port = 8000\n" if name == "hearth.toml" else content) for name, content in members]


def _that_leads_out(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    name, manifest = members[-1]
    told = json.loads(manifest)
    told["entries"][0]["path"] = "../outside"
    return [("../outside", members[0][1]), *members[1:-1], (name, json.dumps(told).encode())]


@pytest.mark.parametrize(
    "change", [_without_manifest, _without_a_file, _with_a_file, _with_other_bytes, _that_leads_out]
)
def test_a_backup_that_is_not_whole_changes_nothing(tmp_path: Path, change: Any) -> None:
    home = small_home(tmp_path)
    make_backup(home, tmp_path / "backup.tar")
    rewritten(tmp_path / "backup.tar", tmp_path / "bad.tar", change)
    with pytest.raises(InvalidValue):
        check_backup(tmp_path / "bad.tar")
    (home / "hearth.toml").write_text("port = 1\n")
    with pytest.raises(InvalidValue):
        restore(home, tmp_path / "bad.tar")
    assert (home / "hearth.toml").read_text() == "port = 1\n"
    assert not (home / STAGING).exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 5000, 20_000])
def test_a_backup_that_was_cut_off_is_none(tmp_path: Path, size: int) -> None:
    home = small_home(tmp_path)
    (home / "more").write_bytes(os.urandom(30_000))
    make_backup(home, tmp_path / "backup.tar")
    whole = (tmp_path / "backup.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:size])
    with pytest.raises(InvalidValue):
        check_backup(tmp_path / "cut.tar")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    make_backup(small_home(tmp_path), tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as source, tarfile.open(tmp_path / "bad.tar", "w") as bad:
        for member in source.getmembers():
            if member.name == "hearth.toml":
                link = tarfile.TarInfo("hearth.toml")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                bad.addfile(link)
            else:
                bad.addfile(member, source.extractfile(member))
    with pytest.raises(InvalidValue, match="is not the file"):
        check_backup(tmp_path / "bad.tar")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a/", "a\0b"])
def test_names_that_lead_out_of_a_home_are_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        checked_name(name)


def test_a_backup_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_manifest(tmp_path / "nothing.tar")
    assert MANIFEST == "manifest.json"
