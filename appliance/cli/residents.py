"""`hearth models ps|load|unload|pin|unpin`: the models in a running server's memory."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from appliance.admin import ModelStatus
from appliance.cli.options import URL
from appliance.client import Client
from appliance.errors import Unavailable

MIB = 1024 * 1024
LOOK_SECONDS = 0.25  # between two looks at how far a load is
GOING = ("loading", "waiting", "unloading")


@click.command()
@URL
@click.option("--all", "all_models", is_flag=True, help="Also models that are not in memory.")
def ps(url: str | None, all_models: bool) -> None:
    """Show the chat models in the server's memory: what they take, who uses them, how long they stay."""
    with Client(url) as client:
        found = client.model_statuses()
    table = Table(
        "model", "state", "memory", "requests", "last used", "stays", box=None, padding=(0, 2, 0, 0)
    )
    for model in found.data:
        if model.role == "chat" and (all_models or model.state not in ("unloaded", "failed")):
            table.add_row(
                model.name, state_text(model), _memory(model), _requests(model), _used(model), _stays(model)
            )
    Console(width=None if Console().is_terminal else 160).print(table)
    print(f"{found.memory_resident // MIB:,} of {found.memory // MIB:,} MiB for chat models are taken")


@click.command()
@click.argument("name")
@URL
@click.option("--keep-alive", metavar="TIME", help="How long it stays unused: seconds, 5m, -1 for ever.")
@click.option("--pin", is_flag=True, help="Never unload it for another, nor for being idle.")
def load(name: str, url: str | None, keep_alive: str | None, pin: bool) -> None:
    """Load the chat model NAME into the server's memory, and wait until it answers."""
    with Client(url) as client:
        if pin:
            client.pin_model(name)
        begun = time.monotonic()
        status = client.load_model(name, wait=LOOK_SECONDS, keep_alive=keep_alive)
        if status.state in GOING:
            status = _watch(client, status)
        if status.state != "ready":
            raise Unavailable(status.error or f"{name} was not loaded: it is {status.state}")
        print(f"{name} is ready after {time.monotonic() - begun:.1f} s")


@click.command()
@click.argument("name")
@URL
@click.option("--force", is_flag=True, help="End the requests that run on it.")
def unload(name: str, url: str | None, force: bool) -> None:
    """Free the memory that the chat model NAME takes; it is loaded again when it is asked for."""
    with Client(url) as client:
        client.unload_model(name, force=force)
    print(f"{name} is unloaded")


@click.command()
@click.argument("name")
@URL
def pin(name: str, url: str | None) -> None:
    """Keep the chat model NAME in memory once it is there, until the server ends."""
    with Client(url) as client:
        status = client.pin_model(name)
    print(f"{name} is pinned; it is {status.state} (the setting generator.pinned outlasts the server)")


@click.command()
@click.argument("name")
@URL
def unpin(name: str, url: str | None) -> None:
    """Let the chat model NAME leave memory again."""
    with Client(url) as client:
        client.pin_model(name, pinned=False)
    print(f"{name} is not pinned")


def state_text(model: ModelStatus) -> str:
    """The state, with how far a load is."""
    return f"loading, {model.progress:.0%}" if model.state == "loading" else model.state


def _watch(client: Client, status: ModelStatus) -> ModelStatus:
    """Shows the load until it is over, one way or the other."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        bar = progress.add_task(status.name, total=1.0)
        while status.state in GOING:
            progress.update(bar, description=f"{status.name}: {status.state}", completed=status.progress)
            time.sleep(LOOK_SECONDS)
            status = client.model_status(status.name)
    return status


def _memory(model: ModelStatus) -> str:
    return f"{model.bytes_estimated // MIB:,} MiB"


def _requests(model: ModelStatus) -> str:
    return f"{model.running} running, {model.waiting} waiting"


def _used(model: ModelStatus) -> str:
    return "never" if model.last_used is None else f"{_duration(time.time() - model.last_used)} ago"


def _stays(model: ModelStatus) -> str:
    if model.is_pinned:
        return "pinned"
    if model.expires_at is not None:
        return f"{_duration(model.expires_at - time.time())} more"
    return "while there is room" if model.keep_alive < 0 else "until its answers are done"


def _duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
