"""The table of an executable's parts: what was written is read again, and nothing else is believed."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from models.bundle import Program, write_bundle
from models.embedded import ALIGNMENT, FOOTER_BYTES, Footer, Table, open_embedded
from models.errors import HashMismatch, MalformedBundle, UnknownModel
from models.library import Library
from models.manifest import Encoding, Manifest, ModelFile
from models.region import Extent, Region
from models.store import Installed, Store

LAUNCHER, PROGRAM = b"\x7fELF launcher" * 40, b"HEARTHPA" * 900
GGUF, ONNX, TOKENIZER = b"GGUF" + bytes(100_000), b"onnx" * 70_000, b"{}" * 30
ENCODING = Encoding(128, 0, ("input_ids", "attention_mask"), "logits")


def model_file(path: str, content: bytes) -> ModelFile:
    return ModelFile(path, len(content), hashlib.sha256(content).hexdigest())


CHAT = Manifest(
    name="talker", role="chat", format="gguf", licence="MIT", context_length=64,
    files=(model_file("model.gguf", GGUF),),
)  # fmt: skip
RERANK = Manifest(
    name="judge", role="rerank", format="onnx", licence="MIT", context_length=64, encoding=ENCODING,
    files=(model_file("model.onnx", ONNX), model_file("tokenizer.json", TOKENIZER)),
)  # fmt: skip
TWIN = msgspec.structs.replace(RERANK, name="twin")
CONTENTS = {"model.gguf": GGUF, "model.onnx": ONNX, "tokenizer.json": TOKENIZER}


class Shelf:
    """A source of models whose files lie one by one in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, content in CONTENTS.items():
            (directory / name).write_bytes(content)

    def list(self) -> list[Installed]:
        return [Installed(manifest, "catalogue", 1.0) for manifest in (CHAT, RERANK, TWIN)]

    def get(self, name: str) -> Installed:
        return next(model for model in self.list() if model.name == name)

    def extent(self, name: str, file: str) -> Extent:
        return Extent(self.directory / file, 0, (self.directory / file).stat().st_size)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "shelf").mkdir()
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "launcher").write_bytes(LAUNCHER)
    (tmp_path / "program").write_bytes(PROGRAM)
    return Program(
        Extent(tmp_path / "launcher", 0, len(LAUNCHER)),
        Extent(tmp_path / "program", 0, len(PROGRAM)),
        hashlib.sha256(b"index").digest(),
        "1.2.3",
    )


@pytest.fixture
def executable(tmp_path: Path, shelf: Shelf, program: Program) -> Path:
    path = tmp_path / "hearth"
    write_bundle(path, program, "tiny", shelf.list(), shelf)
    return path


def rewrite(path: Path, change: Callable[[Table], Table]) -> None:
    """Replace the table by a changed one whose hash is right: only its sense is wrong."""
    content = path.read_bytes()
    footer = Footer.decode(content[-FOOTER_BYTES:])
    table = msgspec.json.decode(content[footer.table_offset :][: footer.table_size], type=Table)
    changed = msgspec.json.encode(change(table))
    footer = footer._replace(table_size=len(changed), table_sha256=hashlib.sha256(changed).digest())
    path.write_bytes(content[: footer.table_offset] + changed + footer.encode())


def read(extent: Extent) -> bytes:
    with Region(extent.path, extent.start, extent.length) as region:
        return region.read(0, extent.length)


def test_every_part_is_found_again_at_its_place(executable: Path, shelf: Shelf) -> None:
    embedded = open_embedded(executable)
    assert embedded.pack == "tiny"
    assert embedded.table.version == "1.2.3"
    assert [model.name for model in embedded.list()] == ["judge", "talker", "twin"]
    assert embedded.get("talker") == shelf.get("talker")
    assert read(embedded.launcher()) == LAUNCHER
    assert read(embedded.program()) == PROGRAM
    for model in embedded.list():
        for file in model.manifest.files:
            extent = embedded.extent(model.name, file.path)
            assert extent.start % ALIGNMENT == 0
            assert read(extent) == CONTENTS[file.path]
    assert {verdict.state for verdict in embedded.verify()} == {"sound"}
    assert executable.stat().st_mode & 0o777 == 0o755


def test_a_file_that_two_models_share_is_carried_once(executable: Path) -> None:
    embedded = open_embedded(executable)
    assert embedded.extent("judge", "model.onnx") == embedded.extent("twin", "model.onnx")
    assert len(embedded.table.files) == 3


def test_the_same_parts_give_the_same_bytes(
    tmp_path: Path, executable: Path, shelf: Shelf, program: Program
) -> None:
    write_bundle(tmp_path / "again", program, "tiny", shelf.list(), shelf)
    assert (tmp_path / "again").read_bytes() == executable.read_bytes()


def test_an_executable_is_made_from_another_ones_parts(tmp_path: Path, executable: Path) -> None:
    first = open_embedded(executable)
    write_bundle(tmp_path / "less", Program.of(first), "own", [first.get("talker")], first)
    second = open_embedded(tmp_path / "less")
    assert [model.name for model in second.list()] == ["talker"]
    assert second.footer.program_sha256 == first.footer.program_sha256
    assert read(second.program()) == PROGRAM
    assert read(second.extent("talker", "model.gguf")) == GGUF


def test_an_unknown_model_is_named(executable: Path) -> None:
    with pytest.raises(UnknownModel, match="judge, talker, twin"):
        open_embedded(executable).get("other")


def test_a_changed_model_file_is_not_packed(tmp_path: Path, shelf: Shelf, program: Program) -> None:
    (shelf.directory / "model.gguf").write_bytes(b"X" + GGUF[1:])
    with pytest.raises(HashMismatch, match=r"model\.gguf"):
        write_bundle(tmp_path / "hearth", program, "tiny", shelf.list(), shelf)
    assert not list(tmp_path.glob("*hearth*"))


@pytest.mark.parametrize("kept", [0, 1, FOOTER_BYTES, -1, -FOOTER_BYTES, -FOOTER_BYTES - 1])
def test_a_file_cut_short_is_refused(executable: Path, kept: int) -> None:
    executable.write_bytes(executable.read_bytes()[:kept])
    with pytest.raises(MalformedBundle):
        open_embedded(executable)


def test_every_changed_bit_of_table_and_footer_is_noticed(executable: Path) -> None:
    content = executable.read_bytes()
    footer = Footer.decode(content[-FOOTER_BYTES:])
    program_hash = range(len(content) - 48, len(content) - 16)  # the launcher checks it
    with executable.open("r+b", buffering=0) as file:
        for at in range(footer.table_offset, len(content)):
            if at in program_hash:
                continue
            os.pwrite(file.fileno(), bytes([content[at] ^ 0x80]), at)
            with pytest.raises(MalformedBundle):
                open_embedded(executable)
            os.pwrite(file.fileno(), content[at : at + 1], at)
    assert open_embedded(executable).pack == "tiny"


def test_a_changed_part_is_named_by_verify(executable: Path) -> None:
    extent = open_embedded(executable).extent("judge", "tokenizer.json")
    content = bytearray(executable.read_bytes())
    content[extent.start] ^= 1
    executable.write_bytes(content)
    damaged = [v for v in open_embedded(executable).verify() if v.state == "damaged"]
    assert {(v.model, v.file) for v in damaged} == {("judge", "tokenizer.json"), ("twin", "tokenizer.json")}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: {"files": t.files[1:]}, "lacks"),
        (lambda t: {"files": (shifted(t.files[0], 8), *t.files[1:])}, "does not begin at a multiple"),
        (lambda t: {"files": (shifted(t.files[0], ALIGNMENT), *t.files[1:])}, "overlap"),
        (lambda t: {"files": (shifted(t.files[0], 1 << 40), *t.files[1:])}, "runs into the table"),
        (lambda t: {"files": (msgspec.structs.replace(t.files[0], bytes=9), *t.files[1:])}, "lacks"),
        (lambda t: {"program": shifted(t.program, 8)}, "different places of the program"),
        (lambda t: {"format": 2}, "format"),
        (lambda t: {"pack": "../up"}, "pack"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    executable: Path, change: Callable[[Table], dict[str, object]], problem: str
) -> None:
    rewrite(executable, lambda table: msgspec.structs.replace(table, **change(table)))
    with pytest.raises(MalformedBundle, match=problem):
        open_embedded(executable)


def test_the_library_prefers_what_the_executable_carries(tmp_path: Path, executable: Path) -> None:
    store = Store(tmp_path / "store")
    store.blob(CHAT.files[0].sha256).write_bytes(GGUF)
    store.install(CHAT, "catalogue")
    embedded = open_embedded(executable)
    library = Library(store, embedded)
    assert [model.name for model in library.list()] == ["judge", "talker", "twin"]
    assert library.extent("talker", "model.gguf") == embedded.extent("talker", "model.gguf")
    assert library.carries("tiny")
    assert not library.carries("starter")
    assert not Library(store).carries("tiny")
    assert Library(store).extent("talker", "model.gguf") == store.extent("talker", "model.gguf")


def test_a_model_installed_under_a_carried_name_goes_first(tmp_path: Path, executable: Path) -> None:
    store = Store(tmp_path / "store")
    own = msgspec.structs.replace(CHAT, files=(model_file("model.gguf", b"GGUF own"),))
    store.blob(own.files[0].sha256).write_bytes(b"GGUF own")
    store.install(own, "file")
    library = Library(store, open_embedded(executable))
    assert library.get("talker").manifest == own
    assert library.extent("talker", "model.gguf").path.parent.name == "blobs"


def shifted(part: object, by: int) -> object:
    return msgspec.structs.replace(part, offset=part.offset + by)  # type: ignore[attr-defined,type-var]
