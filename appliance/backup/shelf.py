"""The backups in a home's own directory, made one at a time by a running server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from appliance.admin import BackupList, BackupStatus
from appliance.backup.making import make_backup
from appliance.backup.reading import read_manifest
from appliance.errors import Conflict, HearthError


class Shelf:
    def __init__(self, home: Path, directory: Path) -> None:
        self._home, self._directory = home, directory
        self._making = ""
        self._error = ""

    async def make(self, *, models: bool) -> BackupStatus:
        """Raises Conflict while one is being made, and what `make_backup` raises."""
        if self._making:
            raise Conflict(f"the backup {self._making} is being made; one at a time")
        name = f"hearth-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.tar"
        self._making, self._error = name, ""
        path = self._directory / name
        try:
            await asyncio.to_thread(make_backup, self._home, path, models=models)
        except HearthError as error:
            self._error = error.message
            raise
        finally:
            self._making = ""
        return await asyncio.to_thread(_status, path)

    async def list(self) -> BackupList:
        """Newest first."""
        found = await asyncio.to_thread(lambda: [_status(path) for path in self._directory.glob("*.tar")])
        found.sort(key=lambda status: status.created_at or 0.0, reverse=True)
        return BackupList(data=tuple(found), making=self._making, error=self._error)


def _status(path: Path) -> BackupStatus:
    size = path.stat().st_size
    try:
        manifest = read_manifest(path)
    except HearthError:
        return BackupStatus(name=path.name, bytes=size)
    return BackupStatus(
        name=path.name,
        bytes=size,
        created_at=manifest.created_at,
        version=manifest.version,
        files=len(manifest.entries),
        models=manifest.models,
    )
