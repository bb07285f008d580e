"""`hearth backup` and `hearth restore`: the whole home in one file, and back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from appliance import paths
from appliance.errors import SetupError

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Put the whole home into one file, while it is in use.")
@click.argument("file", type=FILE, required=False)
@click.option("--models", is_flag=True, help="The model files too; without them they must be fetched again.")
def backup(file: Path | None, models: bool) -> None:
    """Write FILE: databases, uploads, settings, keys and the audit log of this home; a server may go on.

    Without FILE it goes into the home's own `backups` directory. FILE is as secret as the home itself.
    """
    # Imported here: `hearth --help` needs no database.
    from appliance.backup.making import make_backup

    home = paths.home()
    if not home.is_dir():
        raise SetupError(f"there is no home {home}; set HEARTH_HOME to the one that is meant")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    target = file or paths.backups(home) / f"hearth-{stamp}.tar"
    manifest = make_backup(home, target, models=models)
    size = target.stat().st_size
    click.echo(f"{target}: {len(manifest.entries)} files, {size} bytes, read back and found whole")


@click.command(short_help="Put a backup back into this home.")
@click.argument("file", type=FILE)
@click.option("--check", is_flag=True, help="Only read the backup and say whether it is whole.")
def restore(file: Path, check: bool) -> None:
    """Make this home what it was when FILE was made. No server may use it meanwhile.

    What is there now is moved to `before-restore-…` in the home, and can be deleted when all is well. Models
    that FILE does not hold stay.
    """
    from appliance.backup.reading import check_backup
    from appliance.backup.restoring import restore as put_back

    if check:
        manifest = check_backup(file)
        click.echo(f"{file} is whole: {_words(manifest.created_at, manifest.version, len(manifest.entries))}")
        return
    manifest, before = put_back(paths.home(), file)
    words = _words(manifest.created_at, manifest.version, len(manifest.entries))
    click.echo(f"{paths.home()} is what it was: {words}")
    print(f"what was there before is in {before}", file=sys.stderr)


def _words(created_at: float, version: str, files: int) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(created_at))
    return f"made {when} by Hearth {version}, {files} files"
