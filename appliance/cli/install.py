"""`hearth install` and `hearth uninstall`: this executable in its place, as a service if wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import click

from appliance.cli.progress import ProgressDisplay
from appliance.cli.settings import open_bundle
from appliance.errors import InvalidValue, SetupError
from appliance.installation import NAME, check_executable, place_executable, previous
from appliance.service_unit import NAME as SERVICE
from appliance.service_unit import STATE, unit
from models.disk import replace_file
from models.embedded import Embedded, open_embedded
from models.trust import Trust

EXECUTABLE = PurePosixPath("/usr/local/bin/hearth")
UNIT = PurePosixPath("/etc/systemd/system") / SERVICE
TRUST = PurePosixPath("/etc/hearth/trust.json")
RUNNING_SYSTEMD = Path("/run/systemd/system")
ROOT_OPTION = click.option(
    "--root", type=click.Path(file_okay=False, path_type=Path), default=Path("/"),
    help="Treat this directory as the root of the machine, such as an image that is being made.",
)  # fmt: skip


@click.command()
@click.option("--systemd", is_flag=True, help="Also write a hardened service unit, and start it.")
@click.option(
    "--network", is_flag=True,
    help="Let the service reach other machines and be reached; without it the kernel allows loopback only.",
)  # fmt: skip
@click.option(
    "--from", "source", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another executable than the one that runs.",
)  # fmt: skip
@ROOT_OPTION
def install(systemd: bool, network: bool, source: Path | None, root: Path) -> None:
    """Put this executable into /usr/local/bin, or a newer one in the place of what is there.

    It is checked first: every part's hash, its signature, that the key is the one pinned at the first
    installation (/etc/hearth/trust.json), and that the version is not lower. Installing again changes
    nothing.
    """
    embedded = _executable(source)
    try:
        _install(embedded, root, systemd=systemd, network=network)
    except PermissionError as error:
        raise SetupError(f"{error.filename} cannot be written; run this as root") from error


def _executable(source: Path | None) -> Embedded:
    embedded = open_bundle() if source is None else open_embedded(source)
    if embedded is None:
        raise InvalidValue("this hearth runs from source; name an executable with --from")
    return embedded


def _install(embedded: Embedded, root: Path, *, systemd: bool, network: bool) -> None:
    trust = Trust(_below(root, TRUST))
    with ProgressDisplay() as progress:
        is_new = check_executable(embedded, trust, progress)
    target = _below(root, EXECUTABLE)
    changed = place_executable(embedded, target)
    trust.pin(NAME, embedded.require_signer(), embedded.table.version)
    print(f"{target}: {'written' if changed else 'is there already'}, version {embedded.table.version}")
    if is_new:
        print(f"from now on only executables signed by {embedded.require_signer()} are installed here")
    if systemd:
        _install_service(root, changed=changed, network=network)


def _install_service(root: Path, *, changed: bool, network: bool) -> None:
    path, text = _below(root, UNIT), unit(EXECUTABLE, is_loopback_only=not network).encode()
    is_same = path.is_file() and path.read_bytes() == text
    if not is_same:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    print(f"{path}: {'is there already' if is_same else 'written'}")
    if root != Path("/") or not RUNNING_SYSTEMD.is_dir():
        print(f"start it on that machine with: systemctl enable --now {SERVICE}")
        return
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", SERVICE)
    if changed or not is_same:
        _systemctl("restart", SERVICE)
    print(f"{SERVICE} runs; see it with: systemctl status {SERVICE}. Its data is in {STATE}")


@click.command()
@click.option("--purge", is_flag=True, help="Also delete its data: models, knowledge bases, settings, keys.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@ROOT_OPTION
def uninstall(purge: bool, yes: bool, root: Path) -> None:
    """Stop the service and remove what `hearth install` put in place. Data stays, unless --purge."""
    data = [_below(root, path) for path in (STATE, STATE.parent / "private" / STATE.name)]
    if purge and not yes:
        click.confirm(f"delete {data[0]} with all models, knowledge bases, settings and keys?", abort=True)
    try:
        if root == Path("/") and RUNNING_SYSTEMD.is_dir() and _below(root, UNIT).exists():
            _systemctl("disable", "--now", SERVICE)
        for path in (UNIT, EXECUTABLE, EXECUTABLE.with_name(previous(EXECUTABLE)), TRUST):
            _remove(_below(root, path))
        if root == Path("/") and RUNNING_SYSTEMD.is_dir():
            _systemctl("daemon-reload")
        if purge:
            for directory in data:
                _remove(directory)
    except PermissionError as error:
        raise SetupError(f"{error.filename} cannot be removed; run this as root") from error
    if not purge and any(directory.exists() for directory in data):
        print(f"its data stays in {data[0]}; `hearth uninstall --purge` deletes it too")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    else:
        return
    print(f"{path}: removed")


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise SetupError(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}")


def _environment() -> dict[str, str]:
    # A frozen program's library path is its own; the machine's tools have theirs.
    return {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
