"""Exported bases that do harm, in packs that are rightly signed."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.sound_pack import MANIFEST, Case, Content, exported, item, members, sha256, write_tar


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
