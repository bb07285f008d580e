"""A sound pack, what it is made of, and the ways to write one, for tests that change a single thing of it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.signed_pack import SIGNATURE, SIGNED_AS, TABLE
from models.signing import SigningKey
from models.tar import BLOCK, header, padding
from tests.tiny_model import tiny_gguf

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))

Content = dict[str, bytes]


class Case(NamedTuple):
    """A hostile pack: `write` makes it at a path that does not exist yet."""

    name: str
    write: Callable[[Path], None]


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
    return lambda path: ignore(path.write_bytes(tar_of(content)))


def write_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: ignore(path.write_bytes(content))


def write_tree(content: Content, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """As a directory, in which `change` does the harm."""

    def write(path: Path) -> None:
        for name, each in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(each)
        change(path)

    return write


def ignore(_: object) -> None:
    return None


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :]
