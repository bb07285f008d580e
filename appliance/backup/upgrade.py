"""A backup before a newer program changes the tables of an older one's home: the way back.

An older program refuses tables that a newer one has changed. To go back, put the older file in place and
restore the backup that was made here.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from appliance.backup.making import make_backup
from appliance.backup.restoring import KNOWN_STEPS
from appliance.errors import HearthError, SetupError
from appliance.store.database import database_version, is_database, open_for_reading
from appliance.version import VERSION

log = logging.getLogger("hearth.backup")

KEPT = 3  # of these backups; the oldest go
PREFIX = "before-upgrade-"


def keep_before_upgrade(home: Path, directory: Path) -> Path | None:
    """A backup without models in `directory`, where this program would change a database of `home`.

    Nothing else may have the home open. Raises SetupError where it cannot be made.
    """
    old = [name for name, steps in KNOWN_STEPS.items() if 0 < _steps_of(home / name) < steps]
    if not old:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    target = directory / f"{PREFIX}{VERSION}-{stamp}.tar"
    log.info("this version changes %s: a backup is made first, in %s", ", ".join(old), target)
    try:
        make_backup(home, target)
    except HearthError as error:
        raise SetupError(
            f"this version changes {', '.join(old)}, and the backup before that could not be made: "
            f"{error.message}. See to that, or set upgrade_backup = false to go on without"
        ) from error
    for extra in sorted(directory.glob(f"{PREFIX}*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        extra.unlink(missing_ok=True)
    return target


def _steps_of(path: Path) -> int:
    """0 for a database that is not there, or holds nothing yet."""
    if not path.exists() or not is_database(path):
        return 0
    with open_for_reading(path) as connection:
        return database_version(connection)
