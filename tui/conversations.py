"""The conversations that can be gone back to: of this session, and those kept in a directory, a file each.

A file is this user's alone (0600, its directory 0700). The newest MOST stay. Knows no screen.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from tui import clock
from tui.conversation import Conversation
from tui.files import replace_private

MOST = 200
SUFFIX = ".json"


class Found(NamedTuple):
    """Newest first; `unreadable`: files that hold no conversation."""

    conversations: tuple[Conversation, ...]
    unreadable: int


class Conversations:
    """`directory` None: none outlives this object. `is_keeping`: whether what is said is written down."""

    def __init__(self, directory: Path | None = None, *, is_keeping: bool = True) -> None:
        self._directory = directory
        self._here: dict[str, Conversation] = {}
        self._deleted: set[str] = set()
        self.is_keeping = is_keeping

    @property
    def can_keep(self) -> bool:
        return self._directory is not None

    @property
    def directory(self) -> Path | None:
        return self._directory

    def put(self, conversation: Conversation) -> None:
        """As it is now, unless it was deleted. Raises OSError when it cannot be written; it is there for this
        session all the same.
        """
        if conversation.id in self._deleted:
            return
        conversation.changed_at = clock.now()
        self._here[conversation.id] = conversation
        if self._directory is None or not self.is_keeping:
            return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_private(self._file(self._directory, conversation.id), msgspec.json.encode(conversation))
        for old in self._files()[MOST:]:
            old.unlink(missing_ok=True)

    def all(self) -> Found:
        found, unreadable = dict[str, Conversation](), 0
        for file in self._files():
            try:
                kept = msgspec.json.decode(file.read_bytes(), type=Conversation)
            except (OSError, msgspec.MsgspecError):
                unreadable += 1
            else:
                found[kept.id] = kept
        newest_first = sorted((found | self._here).values(), key=lambda each: -each.changed_at)
        return Found(tuple(newest_first), unreadable)

    def delete(self, id: str) -> None:
        """From this session and from the disk. Raises OSError."""
        self._here.pop(id, None)
        self._deleted.add(id)
        if self._directory is not None:
            self._file(self._directory, id).unlink(missing_ok=True)

    def count_kept(self) -> int:
        return len(self._files())

    def delete_kept(self) -> None:
        """From the disk, also what cannot be read. Raises OSError."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Newest first."""
        if self._directory is None:
            return []
        dated = []
        for file in self._directory.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # it has gone meanwhile
                dated.append((file.stat().st_mtime, file))
        return [file for _, file in sorted(dated, reverse=True)]

    @staticmethod
    def _file(directory: Path, id: str) -> Path:
        return directory / f"{id}{SUFFIX}"
