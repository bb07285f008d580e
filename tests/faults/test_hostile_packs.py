"""The whole corpus of hostile packs, and the sound pack that each of them was made from."""

from __future__ import annotations

from pathlib import Path

from models.signed_pack import open_pack
from tests.faults.hostile_packs import try_all
from tests.faults.sound_pack import KEY, members, sound, write_tar


def test_the_pack_they_are_made_from_is_sound(tmp_path: Path) -> None:
    write_tar(members(*sound()))(tmp_path / "gift")
    pack = open_pack(tmp_path / "gift")
    pack.check()
    assert pack.signer == KEY.verifying_key
    assert [model.name for model in pack.table.models] == ["tiny"]


def test_every_hostile_pack_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    figures = try_all(tmp_path)
    assert (figures.accepted, figures.written, figures.crashed) == ([], [], [])
    assert figures.cases > 500
