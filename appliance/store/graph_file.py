"""Graph files: a header, the ids that can be found, then hnswlib's own bytes, all under one checksum.

    0   8  magic "HEARTHG1"
    8  32  SHA-256 over everything after it
    40  8  edition          all numbers little endian, unsigned
    48  8  generation
    56  8  dimensions
    64  8  count of ids
    72  8  bytes of hnswlib's part
    80 32  the base's id, zero-padded ASCII
   112     count × 8 bytes of ids, ascending; then hnswlib's part

A file is a cache. It is used only if every byte is as it was written, if it belongs to the edition and the
generation that SQLite names, and if SQLite names that very checksum: a file from another time, or put back
from a backup, is refused like a damaged one. What is verified is what hnswlib reads: the bytes go through an
anonymous file in memory, so nothing can change between the check and the load.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from appliance.store.rows import Edition
from appliance.store.vectors import Graph

MAGIC = b"HEARTHG1"
HEADER = struct.Struct("<QQQQQ32s")
DIGEST_BYTES = 32
PIECE = 8 * 1024 * 1024


class Refused(Exception):
    """The file cannot be used; its message says why. The graph is then built anew from SQLite."""


def path_of(directory: Path, edition: int, generation: int) -> Path:
    return directory / f"{edition}-{generation}.graph"


def write(graph: Graph, directory: Path, edition: Edition, generation: int) -> str:
    """Save the graph durably; its checksum. Raises OSError."""
    target = path_of(directory, edition.id, generation)
    partial = directory / f"{uuid.uuid4().hex}.partial"
    try:
        with _memory_file() as memory:
            ids = graph.save(_path(memory)).astype("<i8").tobytes()
            size = os.fstat(memory).st_size
            header = HEADER.pack(
                edition.id, generation, edition.dimensions, len(ids) // 8, size, edition.base.encode("ascii")
            )
            digest = hashlib.sha256(header + ids)
            with partial.open("wb") as file:
                file.write(MAGIC + bytes(DIGEST_BYTES) + header + ids)
                os.lseek(memory, 0, os.SEEK_SET)
                while piece := os.read(memory, PIECE):
                    digest.update(piece)
                    file.write(piece)
                file.seek(len(MAGIC))
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
        partial.rename(target)
        sync_directory(directory)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


def read(directory: Path, edition: Edition) -> Graph:
    """The graph that SQLite names for the edition. Raises Refused."""
    path = path_of(directory, edition.id, edition.graph_generation)
    try:
        with path.open("rb") as file, _memory_file() as memory:
            return _read(file, memory, edition)
    except OSError as error:
        raise Refused(f"{path.name} cannot be read: {error.strerror}") from error


def _read(file: BinaryIO, memory: int, edition: Edition) -> Graph:
    start = file.read(len(MAGIC) + DIGEST_BYTES + HEADER.size)
    if len(start) < len(MAGIC) + DIGEST_BYTES + HEADER.size or not start.startswith(MAGIC):
        raise Refused("it is not a graph file")
    stated = start[len(MAGIC) : len(MAGIC) + DIGEST_BYTES]
    if stated.hex() != edition.graph_digest:
        raise Refused("it is not the file that the database names")
    header = start[len(MAGIC) + DIGEST_BYTES :]
    id, generation, dimensions, count, size, base = HEADER.unpack(header)
    expected = (edition.id, edition.graph_generation, edition.dimensions, edition.base.encode("ascii"))
    if (id, generation, dimensions, base.rstrip(b"\0")) != expected:
        raise Refused("it belongs to another base or generation")
    if os.fstat(file.fileno()).st_size != len(start) + 8 * count + size:
        raise Refused("it is cut short or has grown")
    ids = file.read(8 * count)
    digest = hashlib.sha256(header + ids)
    while piece := file.read(PIECE):
        digest.update(piece)
        _write_all(memory, piece)
    if digest.digest() != stated:
        raise Refused("its checksum is wrong")
    return Graph.load(_path(memory), edition.dimensions, np.frombuffer(ids, "<i8"))


def clean(directory: Path, wanted: set[Path]) -> None:
    """Remove every file of this directory that is not wanted: old generations, partial writes."""
    for path in directory.iterdir():
        if path not in wanted:
            path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames within the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _memory_file() -> Iterator[int]:
    descriptor = os.memfd_create("graph", os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
