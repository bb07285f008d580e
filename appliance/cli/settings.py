"""The settings as the command line sees them: home, file, environment and flags put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance import paths
from appliance.config import layers
from appliance.config.history import History
from appliance.config.schema import Settings
from appliance.errors import ConfigError
from models.embedded import Embedded, open_embedded
from models.library import Library
from models.region import Extent
from models.store import Store

if TYPE_CHECKING:
    from appliance.knowledge.carried import CarriedBase

SET_OPTION = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting, such as --set generator.slots=8. Can be given several times.",
)


Loader = Callable[[str | None], Settings]


def settings_loader(assignments: Sequence[str] = (), **flags: str | None) -> Loader:
    """What turns a text of hearth.toml (None: the file's own) into settings, with all the other layers.

    Both raise ConfigError naming where a wrong setting was written.
    """
    given = _given(assignments, flags)
    embedded = open_bundle()
    defaults = {"pack": embedded.pack} if embedded else None
    return lambda text: layers.load(settings_file(), os.environ, given, defaults, text=text)


def fixed_settings(assignments: Sequence[str] = (), **flags: str | None) -> dict[str, str]:
    """The settings that hearth.toml cannot change, and where each is written. Raises ConfigError."""
    return layers.fixed(os.environ, _given(assignments, flags))


def _given(assignments: Sequence[str], flags: Mapping[str, str | None]) -> dict[str, str | None]:
    given = dict(flags)
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--set takes KEY=VALUE, such as generator.slots=8; got {assignment!r}")
        given[key.strip()] = value.strip()
    return given


def load_settings(assignments: Sequence[str] = (), **flags: str | None) -> Settings:
    """Raises ConfigError naming where a wrong setting was written."""
    return settings_loader(assignments, **flags)(None)


def settings_file() -> Path:
    return paths.config_file(paths.home())


def open_history() -> History:
    return History(paths.config_history(paths.home()))


def open_store() -> Store:
    """The model store in the home directory, made if need be. Raises StoreError."""
    return Store(paths.models(paths.home()))


@cache
def open_bundle() -> Embedded | None:
    """What the one-file executable carries; None when there is none. Raises MalformedBundle."""
    path = paths.bundle()
    return None if path is None else open_embedded(path)


def open_library() -> Library:
    """Every model at hand: the store's and the executable's. Raises StoreError, MalformedBundle."""
    return Library(open_store(), open_bundle())


def carried_bases() -> list[CarriedBase]:
    """The knowledge bases that the executable carries, and those that packs left in the home."""
    # Imported here: most commands have nothing to do with knowledge.
    from appliance.knowledge.carried import CarriedBase

    embedded = open_bundle()
    found = (
        [CarriedBase(base.sha256, embedded.base(base)) for base in embedded.table.bases] if embedded else []
    )
    waiting = sorted(paths.carried_bases(paths.home()).glob("*.zip"))
    return found + [CarriedBase(path.stem, Extent.whole(path), is_temporary=True) for path in waiting]
