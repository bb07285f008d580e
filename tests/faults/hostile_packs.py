"""Packs that somebody made to do harm, each in one way: all must be refused, and nothing may have been
written.

Run from the repository's root:

    python -m tests.faults.hostile_packs

Every pack is rightly signed by its maker where the harm does not lie in the signature: a stranger's first
pack is what a machine accepts most easily. The last line is JSON: `accepted`, `written` and `crashed` must be
0.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import socket
import stat
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance import packs
from appliance.cli.settings import settings_loader
from appliance.errors import HearthError
from models.errors import ModelError
from models.signed_pack import SIGNATURE, SIGNED_AS, TABLE, open_pack
from models.signing import SigningKey
from models.store import Store
from models.tar import BLOCK, header, padding
from models.trust import Trust
from tests.tiny_model import tiny_gguf

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))
SEED = 20261126
FLIPS = 150
CUTS = 60

Content = dict[str, bytes]


class Case(NamedTuple):
    """A hostile pack: `write` makes it at a path that does not exist yet."""

    name: str
    write: Callable[[Path], None]


# A sound pack, and the ways to write one


def sound() -> tuple[dict[str, Any], Content]:
    """Table and files of a pack with a model, a base and settings."""
    files = {
        "models/tiny/model.gguf": tiny_gguf(),
        "config/hearth.toml": b"port = 9000\n",
    }
    base = exported()
    files[f"bases/{sha256(base)}.zip"] = base
    table = {
        "format": 1,
        "name": "gift",
        "version": "1.2",
        "models": [
            {
                "name": "tiny",
                "role": "chat",
                "format": "gguf",
                "licence": "MIT",
                "context_length": 64,
                "files": [{"path": "model.gguf"} | item(files["models/tiny/model.gguf"])],
            }
        ],
        "bases": [{"name": "manuals", "documents": 1, "file": item(base)}],
        "config": item(files["config/hearth.toml"]),
    }
    return table, files


def item(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": sha256(content)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "manuals",
    "documents": [{"member": "documents/000000", "filename": "a.txt"}],
}


def exported(change: Callable[[zipfile.ZipFile], None] | None = None, manifest: Any = MANIFEST) -> bytes:
    """An exported base, as `hearth kb export` writes it; `change` adds what it never would."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("hearth-kb.json"), json.dumps(manifest))
        archive.writestr(zipfile.ZipInfo("documents/000000"), b"Valve 42 is opened first.")
        if change is not None:
            change(archive)
    return buffer.getvalue()


def members(table: Any, files: Content, key: SigningKey = KEY) -> Content:
    """Every file of a pack with this table, rightly signed."""
    encoded = table if isinstance(table, bytes) else msgspec.json.encode(table)
    return {TABLE: encoded, SIGNATURE: key.sign(SIGNED_AS, encoded), **files}


def tar_of(content: Content) -> bytes:
    parts = [header(name, len(each)) + each + padding(len(each)) for name, each in content.items()]
    return b"".join(parts) + bytes(2 * BLOCK)


def write_tar(content: Content) -> Callable[[Path], None]:
    return lambda path: _ignore(path.write_bytes(tar_of(content)))


def write_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: _ignore(path.write_bytes(content))


def write_tree(content: Content, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """As a directory, in which `change` does the harm."""

    def write(path: Path) -> None:
        for name, each in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(each)
        change(path)

    return write


def _ignore(_: object) -> None:
    return None


# The corpus


def corpus() -> Iterator[Case]:
    """Every hostile pack."""
    table, files = sound()
    whole = members(table, files)
    for cases in (tars, tables, signatures, directories, bases, contents):
        yield from cases(table, files, whole)


def tars(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    good = tar_of(whole)
    end = bytes(2 * BLOCK)
    for kind, info in foreign_members():
        extra = info.tobuf(tarfile.GNU_FORMAT if kind != "pax" else tarfile.PAX_FORMAT)
        yield Case(f"tar: {kind} at the end", write_bytes(good[: -len(end)] + extra + end))
        yield Case(f"tar: {kind} at the beginning", write_bytes(extra + good))
    for name in (
        "../escape", "/etc/passwd", "models/../../escape", "models/tiny/../../../escape",
        "./pack.json", "PACK.JSON", "Pack.Sig", "models/TINY/model.gguf", "models/tiny/model.gguf ",
        "models\\tiny\\model.gguf", "update/hearth", "con", "models/other/model.gguf", "pack.json\n",
        "bases/up.zip", "~/.ssh/authorized_keys",
    ):  # fmt: skip
        yield Case(f"tar: a file called {name!r}", write_tar(whole | {name: b"x"}))
    for name in whole:
        yield Case(f"tar: {name} twice", write_bytes(tar_of({name: whole[name]})[: -len(end)] + good))
        yield Case(f"tar: without {name}", write_tar({n: c for n, c in whole.items() if n != name}))
        yield Case(f"tar: {name} longer", write_tar(whole | {name: whole[name] + b"\0"}))
        yield Case(f"tar: {name} shorter", write_tar(whole | {name: whole[name][:-1]}))
        yield Case(f"tar: {name} empty", write_tar(whole | {name: b""}))
    for magic in (
        b"\x1f\x8b",
        b"\xfd7zXZ\0",
        b"BZh9",
        b"\x28\xb5\x2f\xfd",
        b"PK\x03\x04",
        b"7z\xbc\xaf\x27\x1c",
    ):
        yield Case(f"tar: compressed, {magic!r}", write_bytes(magic + bytes(4096)))
    for size in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"-0000000001\0", b"zzzzzzzzzzz\0"):
        yield Case(f"tar: a size of {size!r}", write_bytes(with_size(good, size)))
    draw = random.Random(SEED)
    for at in [0, 1, 511, 512, *sorted(draw.randrange(len(good)) for _ in range(CUTS))]:
        yield Case(f"tar: cut at byte {at}", write_bytes(good[:at]))
    for behind in (b"\0", bytes(512), b"x" * 512, good):
        yield Case(f"tar: {len(behind)} bytes behind its end", write_bytes(good + behind))
    headers = [at for at in range(0, len(good), BLOCK) if good[at + 257 : at + 262] == b"ustar"]
    for _ in range(FLIPS):
        at = draw.choice(headers) + draw.randrange(BLOCK)
        yield Case(f"tar: another header byte at {at}", write_bytes(flipped(good, at)))
    yield Case(
        "tar: too many files", write_tar(whole | {f"models/m{n}/model.gguf": b"" for n in range(5000)})
    )


def foreign_members() -> Iterator[tuple[str, tarfile.TarInfo]]:
    """What a tar may hold and a pack may not."""
    kinds = {
        "a symbolic link": tarfile.SYMTYPE,
        "a hard link": tarfile.LNKTYPE,
        "a character device": tarfile.CHRTYPE,
        "a block device": tarfile.BLKTYPE,
        "a directory": tarfile.DIRTYPE,
        "a pipe": tarfile.FIFOTYPE,
        "a contiguous file": tarfile.CONTTYPE,
        "a sparse file": tarfile.GNUTYPE_SPARSE,
        "an old plain file": tarfile.AREGTYPE,
        "a kind nobody knows": b"9",
    }
    for kind, type_ in kinds.items():
        info = tarfile.TarInfo("models/tiny/link")
        info.type, info.linkname, info.devmajor, info.devminor = type_, "/etc/passwd", 1, 5
        yield kind, info
    long = tarfile.TarInfo("x" * 300)
    yield "a GNU long name", long
    yield "pax", long
    setuid = tarfile.TarInfo("models/tiny/model2.gguf")
    setuid.mode, setuid.uid = 0o4755, 1000
    yield "a setuid file", setuid


def with_size(tar: bytes, size: bytes) -> bytes:
    """The first header with another size, and the checksum that goes with it."""
    block = bytearray(tar[:BLOCK])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + tar[BLOCK:]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :]


def tables(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    def changed(harm: str, **fields: Any) -> Case:
        return Case(f"table: {harm}", write_tar(members(table | fields, files)))

    model = table["models"][0]
    yield changed("a format of the future", format=2)
    yield changed("an unknown key", run="rm -rf /")
    yield changed("a model twice", models=[model, model])
    yield changed("a base twice", bases=table["bases"] * 2)
    yield changed("the executable's name", name="hearth")
    for name in ("../up", "", "A", "a/b", "a" * 200, "con\0", "."):
        yield changed(f"called {name!r}", name=name)
        yield changed(f"a model called {name!r}", models=[model | {"name": name}])
        yield changed(
            f"a file called {name!r}", models=[model | {"files": [model["files"][0] | {"path": name}]}]
        )
    for version in ("", "1.x", "-1", "1.2.3.4.5", "01", "9" * 30, "1.2\n"):
        yield changed(f"version {version!r}", version=version)
    for size in (-1, 0, 1 << 60, 1.5, "12"):
        yield changed(f"a size of {size!r}", config=table["config"] | {"bytes": size})
    for digest in ("", "0" * 63, "g" * 64, "../" + "0" * 61, "A" * 64):
        yield changed(f"a hash of {digest!r}", config=table["config"] | {"sha256": digest})
    for encoded in (
        b"", b"null", b"[]", b"{" * 100_000, b"[" * 100_000, b'{"format":1', b"\xff\xfe", b'{"a":' * 50_000,
        msgspec.json.encode(table)[:-1], msgspec.json.encode(table | {"description": "x" * 5_000_000}),
    ):  # fmt: skip
        yield Case(f"table: {encoded[:20]!r}, {len(encoded)} bytes", write_tar(members(encoded, files)))


def signatures(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    for at in range(0, len(whole[SIGNATURE]), 3):
        bad = whole | {SIGNATURE: flipped(whole[SIGNATURE], at)}
        yield Case(f"signature: another byte at {at}", write_tar(bad))
    for at in range(0, len(whole[TABLE]), max(1, len(whole[TABLE]) // 40)):
        yield Case(
            f"signature: another table, byte {at}", write_tar(whole | {TABLE: flipped(whole[TABLE], at)})
        )
    foreign = KEY.sign("hearth executable 1\n", whole[TABLE])
    yield Case("signature: an executable's", write_tar(whole | {SIGNATURE: foreign}))
    yield Case("signature: the key alone", write_tar(whole | {SIGNATURE: whole[SIGNATURE][:32]}))
    yield Case("signature: zeros", write_tar(whole | {SIGNATURE: bytes(96)}))
    yield Case("signature: a small-order key", write_tar(whole | {SIGNATURE: b"\1" + bytes(95)}))
    yield Case("pinned: another key", write_tar(members(table | {"name": "pinned"}, files, OTHER)))
    yield Case(
        "pinned: a lower version", write_tar(members(table | {"name": "pinned", "version": "4.9"}, files))
    )
    yield Case(
        "pinned: a lower part", write_tar(members(table | {"name": "pinned", "version": "5.1.9"}, files))
    )


def directories(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    model = "models/tiny/model.gguf"

    def replaced(path: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
        def change(root: Path) -> None:
            (root / path).unlink(missing_ok=True)
            make(root / path)

        return change

    changes: dict[str, Callable[[Path], Any]] = {}
    for path in (TABLE, SIGNATURE, model, "config/hearth.toml", "readme", "models/extra"):
        changes[f"{path} is a symbolic link"] = replaced(path, lambda at: at.symlink_to("/etc/passwd"))
        changes[f"{path} is a dangling link"] = replaced(path, lambda at: at.symlink_to("/nowhere"))
        changes[f"{path} is a hard link"] = replaced(path, _hard_link)
        changes[f"{path} is a pipe"] = replaced(path, os.mkfifo)
        changes[f"{path} is a socket"] = replaced(path, _socket)
        if _may_make_devices():
            changes[f"{path} is a device"] = replaced(path, _device)
    changes["a directory is a link"] = _linked_directory
    changes["a directory links to itself"] = lambda root: (root / "models/loop").symlink_to(root)
    for name in (
        "PACK.JSON",
        "pack.jſon",
        "Models",
        "models/Tiny",
        "models/tiny/MODEL.gguf",
        "x",
        "update/hearth",
    ):
        changes[f"also a file {name!r}"] = lambda root, name=name: _write(root / name)
    changes["a name that is no text"] = lambda root: _write(
        Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe"))
    )
    changes["deeper than a pack"] = lambda root: (root / "models/tiny/a/b").mkdir(parents=True)
    changes["too many files"] = lambda root: [_write(root / f"models/{n}") for n in range(4200)]
    for path in whole:
        changes[f"{path} is gone"] = lambda root, path=path: (root / path).unlink()
        changes[f"{path} is cut short"] = lambda root, path=path: os.truncate(
            root / path, len(whole[path]) - 1
        )
        changes[f"{path} is longer"] = lambda root, path=path: os.truncate(root / path, len(whole[path]) + 1)
        changes[f"{path} is huge and sparse"] = lambda root, path=path: os.truncate(root / path, 1 << 40)
        changes[f"{path} has another byte"] = lambda root, path=path: (root / path).write_bytes(
            flipped(whole[path], len(whole[path]) // 2)
        )
        changes[f"{path} is a directory"] = lambda root, path=path: (
            (root / path).unlink(),
            (root / path).mkdir(),
        )
    for name, change in changes.items():
        yield Case(f"directory: {name}", write_tree(whole, change))


def _hard_link(at: Path) -> None:
    """Of a file outside the pack, on the same disk."""
    descriptor, outside = tempfile.mkstemp()
    os.close(descriptor)
    os.link(outside, at)


def _socket(at: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(at.parent)  # a socket's path is short
        try:
            listener.bind(at.name)
        finally:
            os.chdir(here)


def _device(at: Path) -> None:
    os.mknod(at, stat.S_IFCHR | 0o600, os.makedev(1, 5))


@functools.cache
def _may_make_devices() -> bool:
    """Root may, but for the root of a user namespace."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            _device(Path(directory) / "zero")
        except PermissionError:
            return False
    return True


def _linked_directory(root: Path) -> None:
    (root / "models/tiny").rename(root.with_name(f"{root.name}-elsewhere"))
    (root / "models/tiny").symlink_to(root.with_name(f"{root.name}-elsewhere"))


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def bases(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    """Exported bases in rightly signed packs."""

    def pack(harm: str, content: bytes, **fields: Any) -> Case:
        kept = {path: each for path, each in files.items() if not path.startswith("bases/")}
        base = {"name": "manuals", "documents": 1, "file": item(content)} | fields
        changed = members(table | {"bases": [base]}, kept | {f"bases/{sha256(content)}.zip": content})
        return Case(f"base: {harm}", write_tar(changed))

    def member(name: str, content: bytes = b"x", **fields: Any) -> Callable[[zipfile.ZipFile], None]:
        def add(archive: zipfile.ZipFile) -> None:
            info = zipfile.ZipInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, content)

        return add

    good = exported()
    for name in (
        "../../escape",
        "/etc/passwd",
        "documents/../../x",
        "documents/000001",
        "HEARTH-KB.JSON",
        "x/",
    ):
        yield pack(f"a member {name!r}", exported(member(name)))
    yield pack("a link", exported(member("documents/000001", b"/etc/passwd", external_attr=0o120777 << 16)))
    yield pack("a member twice", _quietly(lambda: exported(member("documents/000000"))))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        two = MANIFEST | {"documents": [*MANIFEST["documents"], document("documents/000001")]}
        squeezed = exported(member("documents/000001", compress_type=method), two)
        yield pack(f"compressed by method {method}", squeezed, documents=2)
    yield pack("a bomb", bomb(1), documents=2)
    yield pack("a flat bomb of many", bomb(12), documents=13)
    yield pack("encrypted", encrypted(good))
    yield pack("no zip", b"nothing at all")
    yield pack("members in one place", overlapping(), documents=2)
    for at in (1, 22, len(good) // 2, len(good) - 1):
        yield pack(f"cut at byte {at}", good[:at])
    for change in (
        {"format": 2}, {"name": ""}, {"name": "a@b"}, {"documents": [document("../x")]}, {"documents": []},
        {"documents": [document("documents/000000")] * 2}, {"metadata": {"a": 1}}, {"run": "x"},
        {"documents": [document("documents/000000") | {"attributes": {"a": {"b": 1}}}]},
        {"documents": [document("documents/000000", filename="")]},
    ):  # fmt: skip
        yield pack(f"a manifest with {change}", exported(manifest=MANIFEST | change))
    yield pack("a manifest that is a list", exported(manifest=[1]))
    yield pack("another name than the table's", good, name="other")
    yield pack("another count than the table's", good, documents=7)


def document(member: str, filename: str = "b.txt") -> dict[str, Any]:
    return {"member": member, "filename": filename}


def bomb(count: int) -> bytes:
    names = [f"documents/{number:06}" for number in range(1, count + 1)]
    manifest = MANIFEST | {"documents": [*MANIFEST["documents"], *(document(name) for name in names)]}

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("hearth-kb.json", json.dumps(manifest))
        archive.writestr("documents/000000", b"Valve 42 is opened first.")
        for name in names:
            archive.writestr(name, bytes((160 // count + 1) << 20))
    return buffer.getvalue()


def encrypted(good: bytes) -> bytes:
    """The flag that says so, in every header."""
    changed = bytearray(good)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(magic)
        while place >= 0:
            changed[place + at] |= 1
            place = changed.find(magic, place + 4)
    return bytes(changed)


def overlapping() -> bytes:
    """Two members of the directory that are one and the same place."""
    two = MANIFEST | {"documents": [*MANIFEST["documents"], document("documents/000001")]}
    content = bytearray(exported(lambda archive: archive.writestr("documents/000001", b"y"), two))
    entries = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    first, second = entries[1], entries[2]
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return bytes(content)


def _quietly(make: Callable[[], bytes]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def contents(table: Any, files: Content, whole: Content) -> Iterator[Case]:
    """Files whose hashes are right and whose content no pack may have."""

    def with_file(harm: str, path: str, content: bytes, **fields: Any) -> Case:
        return Case(f"content: {harm}", write_tar(members(table | fields, files | {path: content})))

    def with_model(name: str, content: bytes) -> Case:
        model = table["models"][0]
        changed = model | {"files": [{"path": "model.gguf"} | item(content)]}
        return with_file(name, "models/tiny/model.gguf", content, models=[changed])

    gguf = files["models/tiny/model.gguf"]
    yield with_model("a model that is no GGUF", b"MZ" + bytes(100))
    yield with_model("a model cut short", gguf[: len(gguf) // 3])
    yield with_model("a GGUF with 2^60 tensors", gguf[:8] + (1 << 60).to_bytes(8, "little") + gguf[16:])
    for text in (b"port = 'x'", b"no_such_key = 1", b"\xff", b"[", b"port = 1\nport = 2", b"x" * (2 << 20)):
        yield with_file(f"settings {text[:20]!r}", "config/hearth.toml", text, config=item(text))
    for name, executable in (
        ("no executable", b"#!/bin/sh\nrm -rf /\n" + bytes(200)),
        ("half a footer", bytes(127)),
    ):
        update = {"version": "9.0", "file": item(executable)}
        yield with_file(f"an update that is {name}", "update/hearth", executable, update=update)


# Running it


class Figures(NamedTuple):
    """`accepted`: packs that were not refused; `written`: cases after which the home had changed; `crashed`:
    those refused by another error than ours; `seconds`: the slowest case."""

    cases: int
    accepted: list[str]
    written: list[str]
    crashed: list[str]
    seconds: float


def try_all(scratch: Path) -> Figures:
    home_directory = scratch / "home"
    trust = Trust(home_directory / "trust.json")
    trust.pin("pinned", KEY.verifying_key, "5.2")
    home = packs.Home(
        Store(home_directory / "models"),
        home_directory / "carried-bases",
        trust,
        lambda text: _ignore(settings_loader()(text)),
        lambda text: _ignore((home_directory / "hearth.toml").write_text(text)),
        home_directory / "hearth",
    )
    before = state(home_directory)
    accepted, written, crashed, slowest, count = [], [], [], 0.0, 0
    for count, case in enumerate(corpus(), 1):
        path = scratch / f"case-{count}"
        case.write(path)
        began = time.monotonic()
        try:
            list(packs.install(open_pack(path), home, lambda _: None))
            accepted.append(case.name)
        except (ModelError, HearthError):
            pass
        except Exception as error:
            crashed.append(f"{case.name}: {error!r}")
        slowest = max(slowest, time.monotonic() - began)
        if state(home_directory) != before:
            written.append(case.name)
            before = state(home_directory)
    return Figures(count, accepted, written, crashed, slowest)


def state(directory: Path) -> list[tuple[str, bytes]]:
    """Every file below it with its content; the store's lock is no content."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lock")
    return [(path.as_posix(), path.read_bytes()) for path in files]


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        figures = try_all(Path(directory))
    for word, names in (
        ("accepted", figures.accepted),
        ("written", figures.written),
        ("crashed", figures.crashed),
    ):
        for name in names:
            print(f"{word}: {name}")
    refused = figures.cases - len(figures.accepted)
    print(
        json.dumps(
            {
                "cases": figures.cases,
                "refused": refused,
                "accepted": len(figures.accepted),
                "written": len(figures.written),
                "crashed": len(figures.crashed),
                "slowest_seconds": round(figures.seconds, 3),
            }
        )
    )
    return 1 if figures.accepted or figures.written or figures.crashed else 0


if __name__ == "__main__":
    sys.exit(main())
