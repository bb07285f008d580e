"""`hearth install` into a root of its own: every part in its place once, and nothing that should not be
there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from appliance.service_unit import unit
from models.bundle import Program, write_bundle
from models.library import Library
from models.region import Extent
from models.signing import SigningKey
from models.store import Store
from models.trust import Trust
from tests.commands import run_hearth

KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes(range(32)))
MOST_EXPOSURE = 2.0


def executable(path: Path, version: str, key: SigningKey | None = KEY) -> Path:
    """One that could not run, but has everything that is checked."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(b"\x7fELF" + version.encode())
    whole = Extent.whole(part)
    source = Library(Store(path.with_name("store")))
    write_bundle(path, Program(whole, whole, bytes(32), version), "tiny", [], source, key=key)
    return path


def install(tmp_path: Path, source: Path, *words: str, status: int = 0) -> str:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    done = run_hearth("install", "--from", str(source), "--root", str(root), *words, home=tmp_path / "home")
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_everything_is_put_in_place_once(tmp_path: Path) -> None:
    source = executable(tmp_path / "hearth", "1.2")
    told = install(tmp_path, source, "--systemd")
    root = tmp_path / "root"
    assert (root / "usr/local/bin/hearth").read_bytes() == source.read_bytes()
    assert (root / "usr/local/bin/hearth").stat().st_mode & 0o777 == 0o755
    assert "ExecStart=/usr/local/bin/hearth serve" in (root / "etc/systemd/system/hearth.service").read_text()
    assert Trust(root / "etc/hearth/trust.json").pins()["hearth"].key == KEY.verifying_key
    assert KEY.verifying_key in told
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert install(tmp_path, source, "--systemd").count("is there already") == 2
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    unchanged = {path for path in after if before[path] == after[path]}
    assert {path.name for path in unchanged} >= {"hearth", "hearth.service"}


def test_a_newer_one_takes_its_place_and_an_older_one_or_a_strangers_does_not(tmp_path: Path) -> None:
    install(tmp_path, executable(tmp_path / "first", "1.2"))
    newer = executable(tmp_path / "newer", "1.10")
    install(tmp_path, newer)
    kept = tmp_path / "root/usr/local/bin/hearth.previous"
    assert kept.read_bytes() == (tmp_path / "first").read_bytes(), "the way back"
    assert len(list(kept.parent.iterdir())) == 2, "and nothing else"
    for source, reason in (
        (executable(tmp_path / "older", "1.9"), "older than 1.10"),
        (executable(tmp_path / "foreign", "2", OTHER), "forget hearth"),
        (executable(tmp_path / "unsigned", "2", None), "not signed"),
    ):
        assert reason in install(tmp_path, source, status=1)
        assert (tmp_path / "root/usr/local/bin/hearth").read_bytes() == newer.read_bytes()


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    source = executable(tmp_path / "hearth", "1.2")
    content = bytearray(source.read_bytes())
    content[1] ^= 1
    source.write_bytes(content)
    assert "damaged" in install(tmp_path, source, status=1)
    assert not (tmp_path / "root/usr").exists()


def test_uninstall_removes_it_and_keeps_the_data_unless_told(tmp_path: Path) -> None:
    install(tmp_path, executable(tmp_path / "hearth", "1.2"), "--systemd")
    install(tmp_path, executable(tmp_path / "newer", "1.3"))
    root, data = tmp_path / "root", tmp_path / "root/var/lib/hearth"
    data.mkdir(parents=True)
    (data / "hearth.toml").touch()
    done = run_hearth("uninstall", "--root", str(root), home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert [path for path in root.rglob("*") if path.is_file()] == [data / "hearth.toml"]
    done = run_hearth("uninstall", "--root", str(root), "--purge", "--yes", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_from_source_it_asks_for_an_executable(tmp_path: Path) -> None:
    done = run_hearth("install", "--root", str(tmp_path), home=tmp_path / "home")
    assert done.returncode == 1
    assert "--from" in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("is_loopback_only", [True, False])
def test_the_service_is_exposed_as_little_as_promised(tmp_path: Path, is_loopback_only: bool) -> None:
    path = tmp_path / "hearth.service"
    path.write_text(unit(PurePosixPath("/bin/true"), is_loopback_only=is_loopback_only))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for hearth.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= MOST_EXPOSURE
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert "hearth.service" not in verified.stderr, verified.stderr
