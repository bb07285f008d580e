"""`hearth pack` and `hearth signing-key` as their users type them, from one home to another."""

from __future__ import annotations

from pathlib import Path

from models.store import Store
from tests.commands import run_hearth
from tests.faults.sound_pack import exported
from tests.tiny_model import tiny_gguf


def hearth(home: Path, *words: str, status: int = 0) -> str:
    home.mkdir(exist_ok=True)
    done = run_hearth(*words, home=home, share_models=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_a_pack_travels_from_one_home_to_another(tmp_path: Path) -> None:
    maker, user, pack = tmp_path / "maker", tmp_path / "user", tmp_path / "gift.pack"
    (tmp_path / "own.gguf").write_bytes(tiny_gguf())
    (tmp_path / "base.zip").write_bytes(exported())
    (tmp_path / "hearth.toml").write_text("port = 9000\n")
    key = hearth(maker, "signing-key", "create").split()[-1]
    words = ("--model", str(tmp_path / "own.gguf"), "--kb", str(tmp_path / "base.zip"))
    words += ("--config", str(tmp_path / "hearth.toml"), "--version", "1.2")
    assert key in hearth(maker, "pack", "make", str(pack), *words)
    assert "own, chat" in hearth(user, "pack", "list", str(pack))
    assert "a key that is new here" in hearth(user, "pack", "verify", str(pack))
    assert hearth(user, "pack", "list").strip() == "no pack was installed here"
    told = hearth(user, "pack", "install", str(pack))
    assert "gift 1.2 is installed" in told
    assert key in told
    assert Store(user / "models").get("own").origin == "pack"
    assert (user / "hearth.toml").read_text() == "port = 9000\n"
    assert len(list((user / "carried-bases").glob("*.zip"))) == 1
    assert "gift" in hearth(user, "pack", "list")
    assert key in hearth(user, "signing-key", "list")


def test_a_stranger_and_an_older_version_are_told_apart_and_refused(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("port = 9000\n")
    make = ("--config", str(tmp_path / "hearth.toml"), "--name", "gift")
    for home, version in (("maker", "2"), ("maker", "1.9"), ("stranger", "3")):
        pack = tmp_path / f"{home}-{version}"
        hearth(tmp_path / home, "pack", "make", str(pack), *make, "--version", version)
    user = tmp_path / "user"
    hearth(user, "pack", "install", str(tmp_path / "maker-2"))
    assert "older than 2" in hearth(user, "pack", "install", str(tmp_path / "maker-1.9"), status=1)
    refused = hearth(user, "pack", "install", str(tmp_path / "stranger-3"), status=1)
    assert "hearth signing-key forget gift" in refused
    hearth(user, "signing-key", "forget", "gift")
    hearth(user, "pack", "install", str(tmp_path / "stranger-3"))


def test_a_key_can_be_pinned_before_the_first_pack(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("port = 9000\n")
    key = hearth(tmp_path / "maker", "signing-key", "create").split()[-1]
    hearth(tmp_path / "user", "signing-key", "trust", "gift", key)
    pack = str(tmp_path / "gift")
    hearth(tmp_path / "stranger", "pack", "make", pack, "--config", str(tmp_path / "hearth.toml"))
    assert "is signed by" in hearth(tmp_path / "user", "pack", "install", pack, status=1)


def test_settings_that_are_wrong_do_not_get_into_a_pack(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("prot = 9000\n")
    words = ("pack", "make", str(tmp_path / "p"), "--config", str(tmp_path / "hearth.toml"))
    told = hearth(tmp_path / "home", *words, status=1)
    assert "prot" in told
    assert not (tmp_path / "p").exists()
