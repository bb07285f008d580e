"""One process per data directory. The lock ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from appliance.errors import SetupError


class DirectoryLock:
    """Held from construction to `release`. Raises SetupError when another process holds it."""

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise SetupError(
                f"the data directory {directory} is in use by another Hearth (process {holder or '?'}); "
                "stop that one, or give this one a home of its own with HEARTH_HOME"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        os.close(self._descriptor)


class HomeLock:
    """A whole home: held by every server in it, together, or `alone` by who replaces what is in it.

    Raises SetupError when it cannot be had.
    """

    def __init__(self, home: Path, *, alone: bool = False) -> None:
        self._descriptor = os.open(home / "home.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise SetupError(
                f"a server uses {home}; stop it first"
                if alone
                else f"{home} is being restored; start again when that is done"
            ) from error

    def release(self) -> None:
        os.close(self._descriptor)
