"""The keys and values of stored blocks: arrays in memory, and files that outlive the process.

Knows bytes and files, not tokens or budgets: which blocks are worth keeping is the block tree's decision.
One thread of its own writes and deletes files, so that the engine never waits for a disk; a disk that is full
or gone costs the cache, never an answer.

A file holds one block and is named by its digest:
    magic 8 | version 4 | depth 4 | key bytes 8 | content bytes 8 | fingerprint 32 | digest 16 | parent 16
    | key | content | SHA-256 of all before it 32
It is written beside its place and renamed into it, and nothing of it is believed before its hash is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from appliance.llm.backend import Content
from appliance.llm.blocks import DIGEST_BYTES, Block, Effect

log = logging.getLogger("hearth.llm")

MAGIC, VERSION = b"HEARTHKV", 1
HEAD = struct.Struct(f"<8sIIQQ32s{DIGEST_BYTES}s{DIGEST_BYTES}s")
HASH_BYTES = 32
LONGEST_KEY = 1 << 16
MOST_WAITING = 256  # blocks; what finds no place is not written
SUFFIX, UNFINISHED = ".block", ".unfinished"
CLOSING_SECONDS = 10.0


class Found(NamedTuple):
    """A block on disk, as its file's head describes it."""

    digest: bytes
    parent: bytes
    depth: int
    key: bytes
    size: int


class BlockStore:
    """`directory` None: memory only. Raises nothing for what a disk does: it logs it, once."""

    def __init__(self, directory: Path | None, fingerprint: bytes = b"") -> None:
        self._contents: dict[bytes, Content] = {}
        self._fingerprint = hashlib.sha256(fingerprint).digest()
        self._directory = None if directory is None else directory / self._fingerprint.hex()[:16]
        self._orders: queue.Queue[tuple[Effect, Content | None] | None] = queue.Queue(MOST_WAITING)
        self._has_complained = False
        self._thread: threading.Thread | None = None
        if directory is not None and self._prepare(directory):
            self._thread = threading.Thread(target=self._obey_orders, name="blocks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """What was ordered is done first, within some seconds."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._orders.put(None, timeout=CLOSING_SECONDS)
                self._thread.join(CLOSING_SECONDS)

    # Contents

    def put(self, block: Block, content: Content) -> None:
        self._contents[block.digest] = content

    def get(self, block: Block) -> Content | None:
        """The block's content; None when it is lost or damaged. From disk it is put into memory too."""
        content = self._contents.get(block.digest)
        if content is None and block.on_disk and self._directory is not None:
            content = self._read(block)
            if content is not None:
                self._contents[block.digest] = content
        return content

    def discard(self, digest: bytes) -> None:
        """A file that fits to nothing."""
        with self._complaining("deleted"):
            self._path(digest).unlink(missing_ok=True)

    def carry_out(self, effects: Sequence[Effect]) -> list[Block]:
        """Do what the tree says; returns the blocks that will not be written."""
        unwritten = []
        for effect in effects:
            digest = effect.block.digest
            if effect.action == "drop":
                self._contents.pop(digest, None)
                continue
            content = self._contents.get(digest) if effect.action == "write" else None
            if not self._order(effect, content) and effect.action == "write":
                unwritten.append(effect.block)
        return unwritten

    def _order(self, effect: Effect, content: Content | None) -> bool:
        if self._thread is None or (effect.action == "write" and content is None):
            return False
        try:
            self._orders.put_nowait((effect, content))
        except queue.Full:
            return False
        return True

    # Files

    def find(self) -> list[Found]:
        """Every block of this fingerprint on disk, parents before children, otherwise oldest first. What is
        no block, or one of other settings, is deleted."""
        if self._thread is None or self._directory is None:
            return []
        found: list[tuple[float, Found]] = []
        with self._complaining("read"):
            for entry in list(os.scandir(self._directory)):
                head = self._read_head(Path(entry.path))
                if head is None:
                    os.unlink(entry.path)
                else:
                    found.append((entry.stat().st_mtime, head))
        found.sort(key=lambda item: item[0])
        return list(_parents_first([head for _, head in found]))

    def _prepare(self, directory: Path) -> bool:
        assert self._directory is not None
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in directory.iterdir():
                if other.name != self._directory.name:
                    shutil.rmtree(other, ignore_errors=True)  # made with another model or other settings
            self._directory.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            self._complain("kept", error)
            return False
        return True

    def _path(self, digest: bytes) -> Path:
        assert self._directory is not None
        return self._directory / (digest.hex() + SUFFIX)

    def _read_head(self, path: Path) -> Found | None:
        if path.suffix != SUFFIX:
            return None
        with path.open("rb") as file:
            raw = file.read(HEAD.size)
            if len(raw) < HEAD.size:
                return None
            magic, version, depth, key_bytes, size, fingerprint, digest, parent = HEAD.unpack(raw)
            is_ours = (magic, version, fingerprint) == (MAGIC, VERSION, self._fingerprint)
            if not is_ours or key_bytes > LONGEST_KEY or path.name != digest.hex() + SUFFIX:
                return None
            key = file.read(key_bytes)
        whole = HEAD.size + key_bytes + size + HASH_BYTES
        return Found(digest, parent, depth, key, size) if path.stat().st_size == whole else None

    def _read(self, block: Block) -> Content | None:
        path = self._path(block.digest)
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError:
            return None
        begin = HEAD.size + len(block.key)
        end = begin + block.size
        if len(raw) != end + HASH_BYTES or hashlib.sha256(raw[:end].data).digest() != raw[end:].tobytes():
            log.warning("a stored prefix is damaged and was dropped: %s", path.name)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return raw[begin:end]

    # The writing thread

    def _obey_orders(self) -> None:
        while (order := self._orders.get()) is not None:
            effect, content = order
            with self._complaining("written"):
                if content is None:
                    self._path(effect.block.digest).unlink(missing_ok=True)
                else:
                    self._write(effect.block, content)

    def _write(self, block: Block, content: Content) -> None:
        assert block.parent is not None
        path = self._path(block.digest)
        head = HEAD.pack(
            MAGIC,
            VERSION,
            block.depth,
            len(block.key),
            len(content),
            self._fingerprint,
            block.digest,
            block.parent.digest,
        )
        digest = hashlib.sha256(head + block.key)
        digest.update(content.data)
        unfinished = path.with_suffix(UNFINISHED)
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(head + block.key)
                file.write(content.data)
                file.write(digest.digest())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _complaining(self, deed: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._complain(deed, error)

    def _complain(self, deed: str, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("stored prefixes cannot be %s: %s", deed, error)


def _parents_first(found: Sequence[Found]) -> Iterator[Found]:
    """Those whose parent is not among `found` first, each followed by what builds on it."""
    known = {each.digest for each in found}
    below: dict[bytes, list[Found]] = {}
    for each in found:
        below.setdefault(each.parent, []).append(each)
    left = [each for each in reversed(found) if each.parent not in known]
    while left:
        each = left.pop()
        yield each
        left.extend(reversed(below.get(each.digest, ())))
