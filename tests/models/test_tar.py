"""The strict tar: any tar program reads what it writes; it reads nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from models.errors import MalformedPack
from models.region import Region
from models.tar import BLOCK, header, padding, read_members, write_end

FILES = {"pack.json": b"{}", "models/a/model.gguf": b"GGUF" * 300, "empty": b"", "block": bytes(BLOCK)}


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "pack.tar"
    with path.open("wb") as file:
        for name, content in FILES.items():
            file.write(header(name, len(content)) + content + padding(len(content)))
        write_end(file)
    return path


def test_what_is_written_is_read_again(tar: Path) -> None:
    with Region(tar) as region:
        members = read_members(region)
        assert {each.name: region.read(each.offset, each.size) for each in members} == FILES


def test_other_programs_read_it(tar: Path) -> None:
    with tarfile.open(tar) as archive:
        assert {info.name: archive.extractfile(info).read() for info in archive} == FILES  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 1 << 44])
def test_sizes_beyond_octal_are_written_as_gnu_does(size: int) -> None:
    info = tarfile.TarInfo.frombuf(header("models/a/model.gguf", size), "ascii", "strict")
    assert (info.name, info.size, info.type) == ("models/a/model.gguf", size, tarfile.REGTYPE)


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        header("x" * 101, 0)


def test_what_tar_itself_writes_is_another_form(tmp_path: Path) -> None:
    path = tmp_path / "theirs.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("pack.json")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    with Region(path) as region, pytest.raises(MalformedPack, match="no header of a pack"):
        read_members(region)
