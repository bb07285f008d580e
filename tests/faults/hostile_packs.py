"""Packs that somebody made to do harm, each in one way: all must be refused, and nothing may have been
written.

Run from the repository's root:

    python -m tests.faults.hostile_packs

Every pack is rightly signed by its maker where the harm does not lie in the signature: a stranger's first
pack is what a machine accepts most easily. The last line is JSON: `accepted`, `written` and `crashed` must be
0.
"""

from __future__ import annotations

import json
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance import packs
from appliance.cli.settings import settings_loader
from appliance.errors import HearthError
from models.errors import ModelError
from models.signed_pack import SIGNATURE, TABLE, open_pack
from models.store import Store
from models.tar import BLOCK
from models.trust import Trust
from tests.faults.hostile_bases import bases
from tests.faults.hostile_directories import directories
from tests.faults.sound_pack import (
    KEY,
    OTHER,
    Case,
    Content,
    flipped,
    ignore,
    item,
    members,
    sound,
    tar_of,
    write_bytes,
    write_tar,
)

SEED = 20261126
FLIPS = 150
CUTS = 60


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
        lambda text: ignore(settings_loader()(text)),
        lambda text: ignore((home_directory / "hearth.toml").write_text(text)),
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
