"""Packs as they are made and installed: the same bytes each time, one file or directory, each part to its
place.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import packs
from models.bundle import BasePart
from models.errors import MalformedPack, NameTaken, StoreError, UntrustedSignature, VersionTooLow
from models.pack_writer import Parts, make_pack
from models.progress import silent
from models.region import Extent
from models.signed_pack import open_pack
from models.signing import SigningKey
from models.store import Store
from models.trust import Trust
from tests.faults.sound_pack import exported, sha256
from tests.tiny_model import install, tiny_gguf

KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes(range(32)))


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    store = Store(tmp_path / "maker")
    model = install(store, "tiny", tiny_gguf())
    (tmp_path / "base.zip").write_bytes(exported())
    (tmp_path / "hearth.toml").write_text("port = 9000\n")
    return Parts(
        name="gift",
        version="1.2",
        description="for hall seven",
        models=[(model, store)],
        bases=[BasePart.of(Extent.whole(tmp_path / "base.zip"))],
        config=tmp_path / "hearth.toml",
    )


@pytest.fixture
def home(tmp_path: Path) -> packs.Home:
    directory = tmp_path / "home"
    taken = directory / "hearth.toml"
    return packs.Home(
        Store(directory / "models"),
        directory / "carried-bases",
        Trust(directory / "trust.json"),
        lambda text: None,
        lambda text: write(taken, text),
        None,
    )


def write(path: Path, text: str) -> None:
    path.write_text(text)


def install_pack(path: Path, home: packs.Home) -> list[str]:
    return list(packs.install(open_pack(path), home, silent))


@pytest.mark.parametrize("as_directory", [False, True])
def test_everything_gets_to_its_place(
    tmp_path: Path, parts: Parts, home: packs.Home, as_directory: bool
) -> None:
    make_pack(tmp_path / "gift", parts, KEY, as_directory=as_directory)
    told = install_pack(tmp_path / "gift", home)
    assert told[0] == "model tiny: installed"
    installed = home.store.get("tiny")
    assert installed.origin == "pack"
    assert home.store.path("tiny", "model.gguf").read_bytes() == tiny_gguf()
    assert (home.carried_bases / f"{sha256(exported())}.zip").read_bytes() == exported()
    assert (tmp_path / "home/hearth.toml").read_text() == "port = 9000\n"
    assert home.trust.pins()["gift"].key == KEY.verifying_key
    assert install_pack(tmp_path / "gift", home)[0] == "model tiny: is there already"


def test_the_same_parts_give_the_same_bytes(tmp_path: Path, parts: Parts) -> None:
    make_pack(tmp_path / "a", parts, KEY)
    make_pack(tmp_path / "b", parts, KEY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_left_of_a_pack_that_could_not_be_made(tmp_path: Path, parts: Parts) -> None:
    before = set(tmp_path.iterdir())
    store = parts.models[0][1]
    store.extent("tiny", "model.gguf").path.chmod(0o644)
    store.extent("tiny", "model.gguf").path.write_bytes(tiny_gguf(seed=2))
    for as_directory in (False, True):
        with pytest.raises(Exception, match="expected sha256"):
            make_pack(tmp_path / "gift", parts, KEY, as_directory=as_directory)
    assert set(tmp_path.iterdir()) == before


def test_a_directory_that_is_there_is_not_overwritten(tmp_path: Path, parts: Parts) -> None:
    (tmp_path / "gift").mkdir()
    with pytest.raises(StoreError, match="already"):
        make_pack(tmp_path / "gift", parts, KEY, as_directory=True)


@pytest.mark.parametrize(
    ("name", "version"), [("hearth", "1"), ("../up", "1"), ("gift", "1.x"), ("gift", "")]
)
def test_a_wrong_name_or_version_is_refused_when_it_is_made(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(MalformedPack):
        make_pack(tmp_path / "gift", Parts(name=name, version=version), KEY)


def test_an_older_pack_and_a_strangers_are_refused(tmp_path: Path, home: packs.Home) -> None:
    for version, key in (("1.2", KEY), ("1.1", KEY), ("1.3", OTHER)):
        make_pack(tmp_path / version, Parts(name="gift", version=version), key)
    install_pack(tmp_path / "1.2", home)
    with pytest.raises(VersionTooLow):
        install_pack(tmp_path / "1.1", home)
    with pytest.raises(UntrustedSignature):
        install_pack(tmp_path / "1.3", home)


def test_a_newer_pack_replaces_its_model_and_nobody_elses(
    tmp_path: Path, parts: Parts, home: packs.Home
) -> None:
    make_pack(tmp_path / "first", parts, KEY)
    install_pack(tmp_path / "first", home)
    store = Store(tmp_path / "newer")
    model = install(store, "tiny", tiny_gguf(seed=2))
    make_pack(tmp_path / "second", Parts(name="gift", version="2", models=[(model, store)]), KEY)
    install_pack(tmp_path / "second", home)
    assert home.store.path("tiny", "model.gguf").read_bytes() == tiny_gguf(seed=2)
    own = packs.Home(Store(tmp_path / "own"), *home[1:])
    install(own.store, "tiny", tiny_gguf(seed=3), origin="file")
    with pytest.raises(NameTaken):
        install_pack(tmp_path / "second", own)
