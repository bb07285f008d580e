"""hearth.toml under a running server: read, checked, compared, taken in one step, kept as a version.

Whatever is wrong with a new text, the old settings stay in force and the reason is told. Settings that are
only read at the start keep their value, and are named. Knows no HTTP; what taking means is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pwd
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from watchfiles import awatch

from appliance.config.describe import described
from appliance.config.diff import Change, differences, in_force
from appliance.config.history import History, Version, write_whole
from appliance.config.schema import Settings
from appliance.configuration import SettingStatus
from appliance.errors import ConfigError, HearthError

log = logging.getLogger("hearth.config")

DEBOUNCE_MS = 100
SETTLE_SECONDS = 0.05


class Taken(Struct, frozen=True, kw_only=True):
    """`pending`: what the file says and only a restart will bring."""

    version: int
    changes: tuple[Change, ...]
    pending: tuple[Change, ...]


class Configuration:
    """`load` turns a text of the file into settings, layered; the server began with `settings`.

    Belongs to the event loop. `taker` is set by who runs the server; it raises ConfigError to refuse.
    """

    def __init__(
        self,
        file: Path,
        load: Callable[[str], Settings],
        settings: Settings,
        history: History,
        fixed: Mapping[str, str] | None = None,
    ) -> None:
        """`fixed`: where each setting is written that the file cannot change."""
        self.file = file
        self.history = history
        self.settings = settings  # in force
        self.error = ""  # why the file as it is now was not taken
        self.taker: Callable[[Settings], None] = lambda settings: None
        self._load = load
        self._fixed = dict(fixed or {})
        self._wanted = settings
        self._text = self.read()

    def begin(self) -> None:
        """Keep what the server begins with, if it is new."""
        latest = self.history.latest()
        changes: tuple[Change, ...] = ()
        if latest is not None and latest.text != self._text:
            try:
                changes = differences(self._load(latest.text), self._wanted)
            except ConfigError:
                log.info("the last version of the configuration fits no longer; no differences are kept")
        self._keep(self._text, self._owner(), changes)

    def read(self) -> str:
        """The file's text, empty where there is none. Raises ConfigError."""
        try:
            return self.file.read_text("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file} cannot be read: {error}") from error

    def described(self) -> tuple[SettingStatus, ...]:
        """Every setting, with what may be written for it."""
        return described(self.settings, self._fixed, tomllib.loads(self._text))

    def check(self, text: str) -> tuple[Change, ...]:
        """What `text` would change of what the server was told to be. Raises ConfigError."""
        return differences(self._wanted, self._load(text))

    @property
    def pending(self) -> tuple[Change, ...]:
        return tuple(c for c in differences(self.settings, self._wanted) if c.needs_restart)

    @property
    def version(self) -> Version | None:
        return self.history.latest()

    def reload(self) -> Taken:
        """Take the file as it is now. Raises ConfigError; then the old settings are in force."""
        try:
            text = self.read()
            if not text.strip() and self._text.strip() and self.file.exists():
                raise ConfigError(
                    f"{self.file} is empty, as a file is while it is being written; remove it to go back to "
                    "the defaults"
                )
            taken = self._take(text, self._owner())
        except HearthError as error:
            self.error = error.message
            raise
        self.error = ""
        return taken

    def replace(self, text: str, author: str) -> Taken:
        """Take `text` and make it the file. Raises ConfigError, StorageFull; then nothing has changed."""
        before = self._text, self._wanted
        taken = self._take(text, author)
        try:
            write_whole(self.file, text.encode())
        except HearthError:
            self._text, self._wanted = before
            self._put_in_force(before[1])
            raise
        self.error = ""
        return taken

    def rollback(self, number: int, author: str) -> Taken:
        """Take the text of an earlier version. Raises NotFound, ConfigError."""
        text = self.history.get(number).text
        return self.replace(text, f"{author} (rollback to {number})")

    async def watch(self) -> None:
        """Reload at every change of the file, or of a policy's Python file beside it, for ever."""

        def concerns(_: object, path: str) -> bool:
            return Path(path).name == self.file.name or path.endswith(".py")

        async for _ in awatch(
            self.file.parent, watch_filter=concerns, recursive=False, debounce=DEBOUNCE_MS, step=20
        ):
            if not await self._is_settled():
                continue  # somebody is writing it: the next event follows
            try:
                taken = self.reload()
            except HearthError as error:
                log.error("the configuration stays as it was: %s", error.message)
            else:
                for change in taken.changes:
                    log.info("configuration %d: %s", taken.version, change)

    async def _is_settled(self) -> bool:
        """Whether the file has stopped changing: a half-written one may be right, and mean something else."""
        with contextlib.suppress(ConfigError):
            before = self.read()
            await asyncio.sleep(SETTLE_SECONDS)
            return self.read() == before
        return True  # the reload says what is wrong

    def _take(self, text: str, author: str) -> Taken:
        wanted = self._load(text)
        changes = differences(self._wanted, wanted)
        self._put_in_force(wanted)
        self._wanted, self._text = wanted, text
        return Taken(version=self._keep(text, author, changes), changes=changes, pending=self.pending)

    def _keep(self, text: str, author: str, changes: tuple[Change, ...]) -> int:
        """The version's number; 0 where it could not be kept: settings are in force all the same."""
        try:
            return self.history.record(text, author, changes).number
        except HearthError as error:
            log.error("this version of the configuration could not be kept: %s", error.message)
            return 0

    def _put_in_force(self, wanted: Settings) -> None:
        settings = in_force(self.settings, wanted)
        self.taker(settings)
        self.settings = settings

    def _owner(self) -> str:
        """Who wrote the file, as far as the system knows."""
        try:
            return f"{pwd.getpwuid(self.file.stat().st_uid).pw_name} (file)"
        except (OSError, KeyError):
            return "unknown (file)"
