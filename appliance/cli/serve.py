"""`hearth serve`: fetch what is missing, bind, serve, drain."""

from __future__ import annotations

import sys

import click

from appliance import address, paths
from appliance.cli.settings import (
    SET_OPTION,
    carried_bases,
    fixed_settings,
    open_history,
    open_library,
    settings_file,
    settings_loader,
)
from appliance.config.schema import Settings
from appliance.errors import SetupError
from appliance.security.egress import is_loopback
from appliance.store.lock import HomeLock
from appliance.telemetry.logs import begin_logging
from models.errors import ModelError
from models.pack import load_pack
from models.store import Store


@click.command(short_help="Start the server.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes any free one. Default: 8080.")
@click.option("--pack", metavar="NAME", help="Models to serve: tiny or starter. Default: starter.")
@click.option("--pull", type=click.Choice(["missing", "never"]), help="Whether missing models are fetched.")
@SET_OPTION
def serve(
    host: str | None, port: str | None, pack: str | None, pull: str | None, assignments: tuple[str, ...]
) -> None:
    """Start the server and answer until Ctrl-C.

    Models of the pack that are not installed are fetched first. The OpenAI API is then at
    http://127.0.0.1:8080/v1. Only this machine can connect, and needs no key until you make one with
    `hearth keys create`; other machines can when there are a key and a certificate (`--host`, `tls`).
    """
    flags = {"host": host, "port": port, "pack": pack, "pull": pull}
    load = settings_loader(assignments, **flags)
    settings = load(None)
    fixed = fixed_settings(assignments, **flags)
    lines = begin_logging(settings.log_level, settings.log_format)
    from appliance import server
    from appliance.config.reload import Configuration
    from appliance.runtime import Runtime

    tls = server.tls_context(settings)
    home = _open_home(settings)
    check_bind(settings)
    # The port is taken before anything long begins: a busy one is then known at once.
    listener = server.bind(settings)
    library = open_library()
    if settings.pull == "missing" and not settings.models and not library.carries(settings.pack):
        fetch_missing(settings, library.store)
    configuration = Configuration(settings_file(), load, settings, open_history(), fixed)
    runtime = Runtime(settings, library, configuration, lines, carried_bases())
    where = server.address(listener, has_tls=tls is not None)

    def announce() -> None:
        try:
            address.tell(paths.home(), where)
        except OSError as error:
            print(f"hearth: commands need --url {where}: {error}", file=sys.stderr)
        names = ", ".join(model.manifest.name for model in runtime.all_served())
        print(f"Hearth serves {names}\nOpenAI API: {where}/v1    stop with Ctrl-C", file=sys.stderr)
        if not runtime.access.needs_credential:
            print(
                "No key is asked for: whoever is on this machine may do everything. `hearth keys create NAME "
                "--role admin` makes the first key",
                file=sys.stderr,
            )

    try:
        server.serve(settings, runtime, listener, announce, tls)
    finally:
        address.forget(paths.home(), where)
        home.release()


def _open_home(settings: Settings) -> HomeLock:
    """The home, ready for this program: a restore finished, a backup made before what it holds is changed."""
    from appliance.backup.restoring import JOURNAL, finish_restore
    from appliance.backup.upgrade import keep_before_upgrade

    home = paths.home()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (home / JOURNAL).exists():
        alone = HomeLock(home, alone=True)
        finish_restore(home)
        alone.release()
    lock = HomeLock(home)
    if settings.upgrade_backup:
        keep_before_upgrade(home, paths.backups(home))
    return lock


def fetch_missing(settings: Settings, store: Store) -> None:
    """Pull the pack unless it is whole already. With some chat model installed, a failure is only told."""
    # Imported here: the one-file executable never fetches, and starts sooner without a network client.
    from appliance.cli.progress import ProgressDisplay
    from models.pull import has_pack, pull_pack

    pack = load_pack(settings.pack)
    if has_pack(store, pack):
        return
    print(f"fetching the models of the pack {pack.name!r} that are missing", file=sys.stderr)
    try:
        with ProgressDisplay() as progress:
            pull_pack(store, pack, progress=progress)
    except ModelError as error:
        if not any(model.manifest.role == "chat" for model in store.list()):
            raise
        print(f"hearth: {error.message}; going on with what is installed", file=sys.stderr)


def check_bind(settings: Settings) -> None:
    """Raises SetupError where other machines could come in unknown, or overheard."""
    if is_loopback(settings.host):
        return
    lets_in = f"host = {settings.host!r} lets other machines in"
    if not _has_credentials(settings):
        raise SetupError(
            f"{lets_in}, and there is no key to tell who they are: make one first, with the server stopped, "
            "by `hearth keys create NAME --role admin`, or name issuers or certificates under [access]"
        )
    if not settings.tls.certificate and not settings.tls.by_proxy:
        raise SetupError(
            f"{lets_in}, and without TLS everybody on the way could read their keys: set tls.certificate and "
            "tls.key; or, where a proxy of yours in front has TLS, tls.by_proxy = true"
        )


def _has_credentials(settings: Settings) -> bool:
    if settings.access.issuers or settings.access.certificates:
        return True
    from appliance.security.keyring import Keyring

    ring = Keyring(paths.access(paths.home()))
    try:
        return ring.has_keys
    finally:
        ring.close()
