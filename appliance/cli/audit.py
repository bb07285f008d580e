"""`hearth audit`: the audit log, read and followed on a running server, checked on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance import paths
from appliance.audit import AuditCheckpoint, AuditEntry, AuditReport
from appliance.cli.options import URL
from appliance.cli.settings import load_settings
from appliance.client import Client
from appliance.errors import InvalidValue, SetupError

PAGE = 1000
WAIT_SECONDS = 30.0


@click.group()
def audit() -> None:
    """Who asked what of which model, in a chain that shows every change."""


@audit.command("list")
@URL
@click.option("--last", default=50, show_default=True, type=click.IntRange(1, PAGE), help="How many lines.")
@click.option("--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--user", default="", help="Of this user only: a key's name, or the hash that lines have.")
@click.option("--model", default="", help="Answered by this model only.")
@click.option("--trace", default="", help="Of this trace only.")
@click.option("--route", default="", type=click.Choice(["", "local", "online"]), help="Answered there only.")
@click.option("--status", default=0, type=click.IntRange(0, 599), help="With this status or a higher one.")
@click.option("--sensitive", is_flag=True, help="With personal data or secrets only.")
@click.option("--json", "as_json", is_flag=True, help="Whole lines, as JSON.")
def list_lines(url: str | None, last: int, follow: bool, as_json: bool, **wanted: Any) -> None:
    """The newest lines of the running server's audit log."""
    with Client(url) as client:
        page = client.audit_lines(limit=last, **wanted)
        for entry in page.data:
            click.echo(_json(entry) if as_json else _line(entry))
        if follow:
            for entry in _following(client, page.newest, wanted):
                click.echo(_json(entry) if as_json else _line(entry))


@audit.command()
@URL
def status(url: str | None) -> None:
    """How the running server's audit log is doing."""
    with Client(url) as client:
        found = client.audit_status()
    if not found.enabled:
        click.echo("no audit log is kept (audit.enabled)")
        return
    click.echo(f"{found.directory}: {found.newest} lines, {found.files} files, {found.bytes} bytes")
    click.echo(
        f"{found.waiting} on their way, {found.lost} lost since the start, when full: {found.when_full}"
    )
    if found.failing:
        click.echo(f"cannot be written: {found.failing}")


@audit.command()
@URL
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file that it is added to.")
def checkpoint(url: str | None, output: Path | None) -> None:
    """The log so far in one line. Kept elsewhere, it shows any later change, whoever makes it."""
    with Client(url) as client:
        line = msgspec.json.encode(client.audit_checkpoint()).decode()
    if output is None:
        click.echo(line)
    else:
        with output.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@audit.command()
@click.option(
    "--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Default: this home's."
)
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The log's key.")
@click.option(
    "--checkpoints",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of exported checkpoints. Can be given several times.",
)
def verify(directory: Path | None, key: Path | None, checkpoints: tuple[Path, ...]) -> int:
    """Read the whole log on the disk and say what was changed. Ends with 1 when something was.

    Found without a checkpoint: lines edited, deleted, moved, put in, or cut off at the end, by whoever does
    not have the log's key. With checkpoints also a log that was made anew with the key.
    """
    # Imported here: only this command needs to know the rooms of the server.
    from appliance.security.audit.files import KEY, read_key
    from appliance.security.audit.verify import read_checkpoints, verify_log

    settings = load_settings().audit
    directory = directory or paths.audit(paths.home())
    configured = Path(settings.key_file).expanduser() if settings.key_file else directory / KEY
    if not directory.is_dir():
        raise SetupError(f"there is no audit log in {directory}")
    known: list[AuditCheckpoint] = []
    for path in (*checkpoints, *_configured_checkpoints(settings.checkpoint_file)):
        try:
            known += read_checkpoints(path)
        except msgspec.MsgspecError as error:
            raise InvalidValue(f"{path} holds no checkpoints of an audit log: {error}") from error
    report = verify_log(directory, read_key(key or configured), known)
    _show(report)
    return 0 if report.is_sound else 1


def _configured_checkpoints(file: str) -> list[Path]:
    path = Path(file).expanduser()
    return [path] if file and path.exists() else []


def _show(report: AuditReport) -> None:
    for finding in report.findings:
        where = f" ({finding.file})" if finding.file else ""
        click.echo(f"{finding.fault}: {finding.message}{where}")
    lines = (
        f"{report.lines} lines, {report.first} to {report.last}, {report.checkpoints} checkpoints compared"
    )
    click.echo(f"{lines}: {'nothing was changed' if report.is_sound else 'THE LOG WAS CHANGED'}")


def _following(client: Client, after: int, wanted: dict[str, Any]) -> Iterator[AuditEntry]:
    while True:
        page = client.audit_lines(after=after, wait=WAIT_SECONDS, limit=PAGE, **wanted)
        yield from page.data
        after = max(after, page.last)


def _json(entry: AuditEntry) -> str:
    return msgspec.json.encode(entry).decode()


def _line(entry: AuditEntry) -> str:
    if entry.event not in ("request", "background", "batch"):
        said = entry.detail or (f"from line {entry.kept_from}" if entry.kept_from else "")
        return f"{entry.seq:>8} {entry.time} {entry.event} {said}".rstrip()
    who = entry.user[:8] or "nobody"
    answered = f" {entry.route} {entry.model}" if entry.model else ""
    tokens = f" {entry.tokens.prompt}+{entry.tokens.completion} tokens" if entry.model else ""
    found = f" SENSITIVE {','.join(entry.kinds)} {entry.privacy}".rstrip() if entry.sensitive else ""
    return (
        f"{entry.seq:>8} {entry.time} {who} {entry.status} {entry.endpoint}{answered}{tokens} "
        f"{entry.seconds:.3f} s{found}"
    )
