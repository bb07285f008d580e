"""`hearth signing-key`: the keys that sign packs and executables, and whose signatures are accepted here.

Keys for programs that use the API are another matter.
"""

from __future__ import annotations

import click

from appliance import paths
from appliance.errors import InvalidValue
from models.signing import KeyRing
from models.trust import Trust

DEFAULT = "default"
KEY_OPTION = click.option(
    "--sign-with", "key_name", metavar="NAME", default=DEFAULT, show_default=True,
    help="The signing key; `default` is made when it is first needed.",
)  # fmt: skip


def open_keys() -> KeyRing:
    return KeyRing(paths.signing_keys(paths.home()))


def open_trust() -> Trust:
    """Raises ManifestError for a trust.json that cannot be read."""
    return Trust(paths.trust(paths.home()))


@click.group("signing-key")
def signing_key() -> None:
    """Make keys that sign packs and executables, and manage whose signatures are accepted here.

    Whoever installs from you checks the signature: compare the verifying key by another way than the stick.
    The first installation of a name pins its key; another key, and an older version, are refused from then
    on.
    """


@signing_key.command()
@click.argument("name", default=DEFAULT)
def create(name: str) -> None:
    """Make the signing key NAME. It stays in the home directory; copy it somewhere safe."""
    print(f"{name}  {open_keys().create(name).verifying_key}")


@signing_key.command("list")
def list_keys() -> None:
    """Show this home's signing keys, and the keys that are accepted here."""
    keys = open_keys()
    for name in keys.names():
        print(f"signs    {name:24} {keys.get(name).verifying_key}")
    for name, pin in open_trust().pins().items():
        print(f"accepts  {name:24} {pin.key}  from version {pin.version}")


@signing_key.command()
@click.argument("name")
@click.argument("key")
@click.option("--version", default="0", show_default=True, help="The oldest version to accept.")
def trust(name: str, key: str, version: str) -> None:
    """Accept packs called NAME only if they are signed by KEY, before any is installed."""
    open_trust().pin(name, key, version)
    print(f"{name} is accepted from {key}")


@signing_key.command()
@click.argument("name")
def forget(name: str) -> None:
    """Let the next installation of NAME pin its key and version anew."""
    if not open_trust().forget(name):
        raise InvalidValue(f"nothing is known of {name!r} here; `hearth signing-key list` shows what is")
    print(f"{name}: the next installation pins its key anew")
