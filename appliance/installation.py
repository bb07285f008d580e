"""Where the executable lies once it is installed, and how a newer one takes its place: whole, or not at all.

Checks what is to be installed: every part's hash, the signature, the pinned key, and that the version is not
lower. Knows no service manager (`appliance.service_unit`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from models.disk import full_disk_as_error, require_free, sync_directory
from models.embedded import Embedded
from models.errors import MalformedBundle
from models.progress import Progress, silent
from models.region import Region
from models.trust import Trust

NAME = "hearth"  # under which executables are pinned
MODE = 0o755


def check_executable(embedded: Embedded, trust: Trust, progress: Progress = silent) -> bool:
    """Whether its key is new here. Raises UntrustedSignature, VersionTooLow, MalformedBundle."""
    is_new = trust.check(NAME, embedded.require_signer(), embedded.table.version)
    if damaged := [verdict.file for verdict in embedded.verify(progress) if verdict.state != "sound"]:
        raise MalformedBundle(embedded.path.name, f"its part {damaged[0]} is damaged; copy the file again")
    return is_new


def place_executable(embedded: Embedded, target: Path) -> bool:
    """Copy the executable to `target`; False when it is there already. What it replaces stays as `previous`.

    Raises StoreFull, MalformedModel when the source shrinks meanwhile, OSError.
    """
    source = embedded.place
    if target.is_file() and _is_same(embedded, target):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    require_free(target.parent, source.length)
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with full_disk_as_error(target.parent, source.length), os.fdopen(descriptor, "wb") as file:
            with Region(source.path, source.start, source.length) as region:
                for chunk in region.chunks():
                    file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        _keep_previous(target)
        Path(unfinished).replace(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return True


def previous(target: Path | PurePosixPath) -> str:
    """The name beside `target` of the executable that was there before."""
    return f"{target.name}.previous"


def _keep_previous(target: Path) -> None:
    """Both names are good at every moment: the older file gets a second name before it loses its own."""
    if not target.is_file():
        return
    unfinished = target.with_name(f".{previous(target)}-{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(target, unfinished)
    except OSError:  # a file system without links, or a folder where they are forbidden
        with full_disk_as_error(target.parent, target.stat().st_size):
            shutil.copy2(target, unfinished)
    unfinished.replace(target.with_name(previous(target)))


def _is_same(embedded: Embedded, target: Path) -> bool:
    if target.stat().st_size != embedded.place.length:
        return False
    with Region(target) as there, Region(*embedded.place.parts) as ours:
        return there.sha256() == ours.sha256()
