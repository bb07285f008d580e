"""Packs in directories that hold what is no file, or a file that is not theirs."""

from __future__ import annotations

import functools
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.signed_pack import SIGNATURE, TABLE
from tests.faults.sound_pack import Case, Content, flipped, write_tree


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
