"""`hearth keys`: who may use the server. While one runs through its admin API, else in the home itself."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

import click
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from appliance import paths
from appliance.admin import IssuedKey, KeyChange, KeyStatus, NewKey
from appliance.cli.options import URL
from appliance.client import Client
from appliance.errors import InvalidValue, SetupError
from appliance.principal import ROLES, Grant

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
ALL = "*"


class Keys(Protocol):
    """Where keys are changed: a server's client, or this home's keyring."""

    def keys(self) -> tuple[KeyStatus, ...]: ...
    def create_key(self, new: NewKey) -> IssuedKey: ...
    def change_key(self, key: str, change: KeyChange) -> KeyStatus: ...
    def rotate_key(self, key: str, *, overlap: float = 0.0) -> IssuedKey: ...
    def revoke_key(self, key: str) -> KeyStatus: ...


class LocalKeys:
    """The keys of this home, while no server has them."""

    def __init__(self) -> None:
        """Raises SetupError when one has."""
        # Imported here: a client of a server needs no database.
        from appliance.security.keyring import Keyring, key_status

        self._ring, self._status = Keyring(paths.access(paths.home())), key_status

    def close(self) -> None:
        self._ring.close()

    def keys(self) -> tuple[KeyStatus, ...]:
        return tuple(self._status(key, time.time()) for key in self._ring.list())

    def create_key(self, new: NewKey) -> IssuedKey:
        key, secret = self._ring.create(new.name, new.grant, owner=new.owner, expires_at=new.expires_at)
        return IssuedKey(key=self._status(key, time.time()), secret=secret)

    def change_key(self, key: str, change: KeyChange) -> KeyStatus:
        changed = self._ring.update(
            self._ring.get(key).id,
            name=None if change.name is UNSET else change.name,
            grant=None if change.grant is UNSET else change.grant,
            expires_at=-1 if change.expires_at is UNSET else change.expires_at,
        )
        return self._status(changed, time.time())

    def rotate_key(self, key: str, *, overlap: float = 0.0) -> IssuedKey:
        rotated, secret = self._ring.rotate(self._ring.get(key).id, overlap=overlap)
        return IssuedKey(key=self._status(rotated, time.time()), secret=secret)

    def revoke_key(self, key: str) -> KeyStatus:
        return self._status(self._ring.revoke(self._ring.get(key).id), time.time())


@contextlib.contextmanager
def open_keys(url: str | None) -> Iterator[Keys]:
    """This home's keys, or those of the server that has them open, or of the one that `url` names."""
    local = None
    if url is None and "HEARTH_URL" not in os.environ:
        with contextlib.suppress(SetupError):
            local = LocalKeys()
    if local is None:
        with Client(url) as client:
            yield client
        return
    try:
        yield local
    finally:
        local.close()


@click.group()
def keys() -> None:
    """Who may use the server: make, list, change, replace and end keys.

    With the server running, an admin's key is needed (HEARTH_API_KEY or --key) once there is one; with the
    server stopped, whoever may read this home may do everything.
    """


def _grant_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--role", type=click.Choice(ROLES), help="What it may. Default of a new key: user."),
            click.option("--model", "models", multiple=True, help="A model it may use; patterns; * for all."),
            click.option("--kb", "bases", multiple=True, help="A knowledge base it may use; as --model."),
            click.option("--route", "routes", multiple=True, help="A path it may call; as --model."),
            click.option("--tool", "tools", multiple=True, help="A server-side tool; none by default."),
            click.option("--priority/--no-priority", default=None, help="May ask for service_tier priority."),
            click.option("--namespace", metavar="NAME", help="Shares computed prompts with this namespace."),
            click.option("--log-content/--no-log-content", default=None, help="Prompts may be audited."),
            click.option("--requests", type=click.IntRange(0), help="Requests a minute; 0: no limit."),
            click.option("--tokens", type=click.IntRange(0), help="Tokens a minute; 0: no limit."),
            click.option("--concurrent", type=click.IntRange(0), help="Requests at once; 0: no limit."),
            click.option("--expires", metavar="TIME", help="How long it is good: 90d, 12h, 30m; never."),
        )
    ):
        command = option(command)
    return command


@keys.command()
@click.argument("name")
@_grant_options
@click.option("--owner", default="", help="Whose data it works on; default: its own.")
@click.option("--quiet", is_flag=True, help="Print the secret only.")
@URL
def create(name: str, owner: str, quiet: bool, url: str | None, **given: Any) -> None:
    """Make a key and print it. It is shown this once: only a hash of it is kept."""
    expires_at = _moment(given["expires"])
    new = NewKey(
        name=name,
        grant=_granted(Grant(), given),
        owner=owner,
        expires_at=None if expires_at is UNSET else expires_at,
    )
    with open_keys(url) as holder:
        _print_issued(holder.create_key(new), quiet)


@keys.command("list")
@click.option("--all", "shows_all", is_flag=True, help="Also keys that have ended.")
@URL
def list_keys(shows_all: bool, url: str | None) -> None:
    """Show the keys: how each begins, what it may, when it was last used."""
    with open_keys(url) as holder:
        known = holder.keys()
    found = [key for key in known if shows_all or key.state == "active"]
    if not found:
        print("there are no keys: whoever reaches the server on this machine may do everything")
        return
    table = Table(
        "name", "key", "state", "role", "may", "expires", "last used", box=None, padding=(0, 2, 0, 0)
    )
    for key in found:
        table.add_row(
            key.name,
            key.prefix + "…",
            key.state,
            key.grant.role,
            _shown(key.grant),
            _date(key.expires_at, "never"),
            _date(key.last_used_at, "never"),
        )
    Console(width=None if Console().is_terminal else 160).print(table)


@keys.command()
@click.argument("name")
@_grant_options
@click.option("--rename", metavar="NAME", help="A new name.")
@URL
def change(name: str, rename: str | None, url: str | None, **given: Any) -> None:
    """Change what a key may. What runs with it ends, and may be asked again."""
    with open_keys(url) as holder:
        key = _named(holder, name)
        grant = _granted(key.grant, given)
        holder.change_key(
            key.id,
            KeyChange(
                name=UNSET if rename is None else rename,
                grant=UNSET if grant == key.grant else grant,
                expires_at=_moment(given["expires"]),
            ),
        )
    print(f"{rename or name} is changed")


@keys.command()
@click.argument("name")
@click.option("--overlap", default="0", metavar="TIME", help="How long the old secret stays good: 1h, 2d.")
@click.option("--quiet", is_flag=True, help="Print the secret only.")
@URL
def rotate(name: str, overlap: str, quiet: bool, url: str | None) -> None:
    """Give a key a new secret, and print it."""
    with open_keys(url) as holder:
        _print_issued(holder.rotate_key(name, overlap=_seconds(overlap)), quiet)


@keys.command()
@click.argument("name")
@URL
def revoke(name: str, url: str | None) -> None:
    """End a key for good; what runs with it ends within a second."""
    with open_keys(url) as holder:
        print(f"{holder.revoke_key(name).name} is revoked")


def _granted(grant: Grant, given: dict[str, Any]) -> Grant:
    """`grant` with what the options say; an option that is not given changes nothing."""
    for name in ("models", "bases", "routes", "tools"):
        if given[name]:
            is_all = ALL in given[name] and name != "tools"  # which a key has only where it says so
            grant = replace(grant, **{name: None if is_all else tuple(given[name])})
    fields = {
        "role": given["role"],
        "namespace": given["namespace"],
        "keeps_content": given["log_content"],
    }
    if given["priority"] is not None:
        fields["tiers"] = ("default", "flex", "priority") if given["priority"] else ("default", "flex")
    rates = {
        "requests_per_minute": given["requests"],
        "tokens_per_minute": given["tokens"],
        "concurrent": given["concurrent"],
    }
    rates = {name: value for name, value in rates.items() if value is not None}
    if rates:
        fields["rates"] = replace(grant.rates, **rates)
    return replace(grant, **{name: value for name, value in fields.items() if value is not None})


def _named(holder: Keys, name: str) -> KeyStatus:
    known = holder.keys()
    for key in known:
        if name in (key.id, key.name) and key.state != "revoked":
            return key
    raise InvalidValue(f"there is no key {name!r}; `hearth keys list` shows those that there are")


def _print_issued(issued: IssuedKey, quiet: bool) -> None:
    if not quiet:
        key = issued.key
        print(f"{key.name} ({key.grant.role}); this is the key, shown this once:", file=sys.stderr)
    print(issued.secret)


def _moment(text: str | None) -> float | UnsetType | None:
    if text is None:
        return UNSET
    return None if text == "never" else time.time() + _seconds(text)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw]?)", text)
    if found is None:
        raise InvalidValue(f"{text!r} is no length of time; write 90d, 12h, 30m or a number of seconds")
    return float(found[1]) * UNITS[found[2]]


def _shown(grant: Grant) -> str:
    scopes = {"models": grant.models, "kb": grant.bases, "routes": grant.routes, "tools": grant.tools}
    parts = [f"{name} {', '.join(only) or 'none'}" for name, only in scopes.items() if only is not None]
    rates = grant.rates
    parts += [
        f"{limit} {words}"
        for limit, words in (
            (rates.requests_per_minute, "requests/min"),
            (rates.tokens_per_minute, "tokens/min"),
            (rates.concurrent, "at once"),
        )
        if limit
    ]
    if "priority" in grant.tiers:
        parts.append("priority")
    return "; ".join(parts) or "everything of its role"


def _date(at: float | None, otherwise: str) -> str:
    return otherwise if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
