"""Owns the program archive: a directory as one verifiable, quickly unpacked part of the executable.

    header   8 bytes "HEARTHPA"; u32 least minor version of glibc 2; u32 entries; u32 blocks;
             u32 bytes of a block; u64 bytes of all files; u64 bytes of the index
    index    per entry: u8 kind; u16 length, path, NUL; then u64 size or, of a link, u16 length, target, NUL
             per block: u32 compressed bytes, SHA-256 of them
    blocks   zlib streams

All numbers are little-endian. The files' bytes form one stream, which is cut into blocks that are compressed
one by one: whoever unpacks uses all processors. The hash of header and index covers everything. The same
directory gives the same bytes: entries are sorted, and only names, sizes, contents and the executable bit
count. Knows nothing of what the files are.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1 << 20
LEVEL = 9

_HEADER = struct.Struct("<8sIIIIQQ")


@dataclass(frozen=True)
class Entry:
    """A file (kind f), a program (x) or a link (l) to `target`, at `path` below the directory."""

    kind: str
    path: str
    size: int = 0
    target: str = ""

    def encode(self) -> bytes:
        rest = _text(self.target) if self.kind == "l" else struct.pack("<Q", self.size)
        return self.kind.encode() + _text(self.path) + rest


def list_entries(directory: Path) -> list[Entry]:
    """Everything below `directory`, sorted by path. Raises ValueError for what is no file and no link."""
    entries = []
    for path in directory.rglob("*"):
        status = path.lstat()
        name = path.relative_to(directory).as_posix()
        if stat.S_ISLNK(status.st_mode):
            entries.append(Entry("l", name, target=os.readlink(path)))
        elif stat.S_ISREG(status.st_mode):
            entries.append(Entry("x" if status.st_mode & 0o100 else "f", name, status.st_size))
        elif not stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is neither a file nor a link nor a directory")
    return sorted(entries, key=lambda entry: entry.path)


def write_archive(directory: Path, target: Path, glibc_minor: int) -> bytes:
    """Packs `directory` into the file `target`; returns the SHA-256 of header and index."""
    entries = list_entries(directory)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = list(pool.map(lambda raw: zlib.compress(raw, LEVEL), _cut(directory, entries)))
    index = b"".join(entry.encode() for entry in entries)
    index += b"".join(struct.pack("<I", len(block)) + hashlib.sha256(block).digest() for block in blocks)
    total = sum(entry.size for entry in entries)
    head = _HEADER.pack(b"HEARTHPA", glibc_minor, len(entries), len(blocks), BLOCK_BYTES, total, len(index))
    with target.open("wb") as file:
        file.writelines([head, index, *blocks])
    return hashlib.sha256(head + index).digest()


def _cut(directory: Path, entries: list[Entry]) -> Iterator[bytes]:
    pending = bytearray()
    for entry in entries:
        if entry.kind != "l":
            pending += (directory / entry.path).read_bytes()
        while len(pending) >= BLOCK_BYTES:
            yield bytes(pending[:BLOCK_BYTES])
            del pending[:BLOCK_BYTES]
    if pending:
        yield bytes(pending)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<H", len(raw)) + raw + b"\0"
