"""`hearth bundle`: what a one-file executable carries, and how a new one is made from this one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from appliance.cli.progress import ProgressDisplay
from appliance.cli.settings import open_bundle
from appliance.errors import InvalidValue
from models.add import add as add_model
from models.bundle import Program, write_bundle
from models.embedded import Embedded, open_embedded
from models.library import Library
from models.store import Store

FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group(invoke_without_command=True)
@click.option(
    "--add",
    "added",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A model of your own to put in: a GGUF file, or a directory with model.onnx and tokenizer.json. "
    "Can be given several times.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The executable to write."
)
@click.pass_context
def bundle(context: click.Context, added: tuple[Path, ...], output: Path | None) -> None:
    """Make a new one-file executable from this one, with models of your own.

    Nothing but this file is needed: the new one has its program, its models and those you add.
    """
    if context.invoked_subcommand is not None:
        return
    if output is None or not added:
        raise InvalidValue("name what to put in with --add and the executable to write with --output")
    own = open_bundle()
    if own is None:
        raise InvalidValue("this hearth runs from source; make an executable with `make binary` first")
    _write(own, added, output.absolute())
    print(f"{output} is written; it serves {', '.join(model.name for model in open_embedded(output).list())}")


def _write(own: Embedded, added: tuple[Path, ...], output: Path) -> None:
    # Beside the target, which must have room for them anyway: they are checked and hashed as they are copied.
    with tempfile.TemporaryDirectory(prefix=".hearth-bundle-", dir=output.parent) as directory:
        library = Library(Store(Path(directory)), own)
        with ProgressDisplay() as progress:
            for path in added:
                add_model(library.store, path, progress=progress)
            write_bundle(output, Program.of(own), own.pack, library.list(), library, progress)


@bundle.command("list")
@FILE
def list_file(file: Path) -> None:
    """Show the models that the executable FILE carries."""
    embedded = open_embedded(file)
    print(f"hearth {embedded.table.version} with the pack {embedded.pack}")
    table = Table("model", "file", "at byte", "bytes", "sha256", box=None, padding=(0, 2, 0, 0))
    for model in embedded.list():
        for part in model.manifest.files:
            extent = embedded.extent(model.name, part.path)
            table.add_row(model.name, part.path, str(extent.start), str(extent.length), part.sha256)
    Console(width=None if Console().is_terminal else 160).print(table)


@bundle.command()
@FILE
def verify(file: Path) -> None:
    """Hash every part of the executable FILE, and compare."""
    with ProgressDisplay() as progress:
        verdicts = open_embedded(file).verify(progress)
    for verdict in verdicts:
        print(f"{verdict.state:8} {verdict.model}/{verdict.file}")
    if any(verdict.state != "sound" for verdict in verdicts):
        raise click.ClickException("the file is damaged; copy it again from where it came from")
