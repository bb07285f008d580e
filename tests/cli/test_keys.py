"""`hearth keys` with the server stopped and running, and the commands that show a key."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.commands import run_hearth
from tests.security.authority import Authority
from tests.tiny_server import StartTiny


def keys(*words: str, home: Path, url: str | None = None) -> subprocess.CompletedProcess[str]:
    return run_hearth("keys", *words, home=home, url=url, share_models=False)


def secret_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_with_the_server_stopped(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "there are no keys" in keys("list", home=home).stdout
    early = keys("create", "kiosk", home=home)
    assert early.returncode == 1
    assert "first key must be an admin's" in early.stderr
    boss = secret_of(keys("create", "boss", "--role", "admin", home=home))
    assert boss.startswith("hearth_")
    words = (
        "--role",
        "reader",
        "--kb",
        "manuals",
        "--model",
        "tiny-*",
        "--requests",
        "60",
        "--expires",
        "90d",
    )
    kiosk = secret_of(keys("create", "kiosk", *words, "--quiet", home=home))
    listed = keys("list", home=home).stdout
    assert "kiosk" in listed
    assert "models tiny-*; kb manuals; 60 requests/min" in listed
    assert kiosk not in listed
    assert kiosk[:18] in listed
    words = "--model * --priority --concurrent 2 --expires never".split()
    changed = keys("change", "kiosk", *words, home=home)
    assert changed.returncode == 0, changed.stderr
    assert "kb manuals; 60 requests/min; 2 at once; priority" in keys("list", home=home).stdout
    assert secret_of(keys("rotate", "kiosk", "--overlap", "1h", home=home)) != kiosk
    assert keys("change", "kiosk", "--rename", "hall", home=home).returncode == 0
    assert keys("revoke", "hall", home=home).returncode == 0
    assert "hall" not in keys("list", home=home).stdout
    assert "revoked" in keys("list", "--all", home=home).stdout
    last = keys("revoke", "boss", home=home)
    assert last.returncode == 1
    assert "the only admin's key" in last.stderr
    for wrong in (("change", "nobody"), ("rotate", "nobody"), ("rotate", "boss", "--overlap", "soon")):
        assert keys(*wrong, home=home).returncode == 1


def test_with_the_server_running(start_tiny: StartTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_tiny()
    boss = secret_of(keys("create", "boss", "--role", "admin", home=server.home, url=server.url))
    refused = keys("list", home=server.home, url=server.url)
    assert refused.returncode == 1
    assert "asks for a key" in refused.stderr
    worker = secret_of(keys("create", "worker", "--key", boss, home=server.home, url=server.url))
    kept = server.http.get("/admin/v1/whoami", headers={"authorization": f"Bearer {worker}"})
    assert kept.json()["name"] == "worker"
    assert "worker" in keys("list", "--key", boss, home=server.home, url=server.url).stdout
    changed = keys("change", "worker", "--role", "operator", "--key", boss, home=server.home, url=server.url)
    assert changed.returncode == 0, changed.stderr
    secret_of(keys("rotate", "worker", "--key", boss, home=server.home, url=server.url))
    again = server.http.get("/admin/v1/whoami", headers={"authorization": f"Bearer {worker}"})
    assert again.status_code == 401
    assert keys("revoke", "worker", "--key", boss, home=server.home, url=server.url).returncode == 0
    status = run_hearth("models", "ps", "--key", boss, home=server.home, url=server.url)
    assert status.returncode == 0, status.stderr
    assert run_hearth("models", "ps", home=server.home, url=server.url).returncode == 1


def test_other_machines_are_let_in_with_credential_and_tls_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("serve", "--host", "0.0.0.0", "--port", "0", "--pull", "never", "--pack", "tiny")
    nothing = run_hearth(*words, home=home, share_models=False)
    assert nothing.returncode == 1
    assert "there is no key to tell who they are" in nothing.stderr
    assert "hearth keys create NAME --role admin" in nothing.stderr
    secret_of(keys("create", "boss", "--role", "admin", home=home))
    plain = run_hearth(*words, home=home, share_models=False)
    assert plain.returncode == 1
    assert "without TLS" in plain.stderr
    assert "tls.certificate" in plain.stderr
    certificate, key = Authority().issue("server", tmp_path)
    missing = run_hearth(*words, "--set", f"tls.certificate={certificate}", home=home, share_models=False)
    assert missing.returncode == 1
    assert "no pair of PEM" in missing.stderr
    assert key.exists()
