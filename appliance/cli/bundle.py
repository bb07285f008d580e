"""`hearth bundle`: what a one-file executable carries, and how a new one is made from this one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from appliance.cli.options import URL
from appliance.cli.progress import ProgressDisplay
from appliance.cli.settings import open_bundle
from appliance.cli.signing_key import KEY_OPTION, open_keys, open_trust
from appliance.errors import InvalidValue
from models.add import add as add_model
from models.bundle import BasePart, Program, write_bundle
from models.embedded import Embedded, open_embedded
from models.library import Library
from models.region import Extent
from models.signing import SigningKey
from models.store import Store

FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
EXECUTABLE = "hearth"  # the name under which executables are pinned


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
    "--kb",
    "bases",
    multiple=True,
    metavar="NAME",
    help="A knowledge base to put in: one of the running server's, or a file that `hearth kb export` wrote. "
    "Can be given several times.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The executable to write."
)
@KEY_OPTION
@URL
@click.pass_context
def bundle(
    context: click.Context,
    added: tuple[Path, ...],
    bases: tuple[str, ...],
    output: Path | None,
    key_name: str,
    url: str | None,
) -> None:
    """Make a new one-file executable from this one, with models and knowledge bases of your own.

    Nothing but this file is needed: the new one has its program, its models and bases, and those you add. It
    is signed with your key.
    """
    if context.invoked_subcommand is not None:
        return
    if output is None or not (added or bases):
        raise InvalidValue(
            "name what to put in with --add or --kb, and the executable to write with --output"
        )
    own = open_bundle()
    if own is None:
        raise InvalidValue("this hearth runs from source; make an executable with `make binary` first")
    key = open_keys().get_or_create(key_name)
    _write(own, added, bases, output.absolute(), key, url)
    made = open_embedded(output)
    print(f"{output} is written and signed by {key.verifying_key}")
    print(f"it serves {', '.join(model.name for model in made.list())}")
    if made.table.bases:
        print(f"with the knowledge bases {', '.join(base.name for base in made.table.bases)}")


def _write(
    own: Embedded,
    added: Sequence[Path],
    bases: Sequence[str],
    output: Path,
    key: SigningKey,
    url: str | None,
) -> None:
    # Beside the target, which must have room for them anyway: they are checked and hashed as they are copied.
    with tempfile.TemporaryDirectory(prefix=".hearth-bundle-", dir=output.parent) as directory:
        library = Library(Store(Path(directory) / "models"), own)
        found = base_parts(bases, Path(directory), url)
        taken = {part.about.name for part in found}
        kept = [BasePart(base, own.base(base)) for base in own.table.bases if base.name not in taken]
        with ProgressDisplay() as progress:
            for path in added:
                add_model(library.store, path, progress=progress)
            program, models = Program.of(own), library.list()
            write_bundle(output, program, own.pack, models, library, progress, bases=[*kept, *found], key=key)


def base_parts(bases: Sequence[str], scratch: Path, url: str | None) -> list[BasePart]:
    """The bases named by exported files, or by their names on the running server, which are exported first.

    Raises InvalidValue, RemoteError, Unavailable, MalformedPack.
    """
    # Imported here: only a base that is not a file needs a server.
    from appliance.client.documents import Export
    from appliance.client.knowledge import KnowledgeClient

    found = []
    for number, base in enumerate(bases):
        path = Path(base)
        if not path.is_file():
            path = scratch / f"{number}.zip"
            with KnowledgeClient(url) as client:
                export = Export(client, client.base(base), path)
                every = len(list(export)) + export.left_out
            if export.left_out:
                raise InvalidValue(
                    f"{export.left_out} of {every} documents of {base} are not read; see "
                    f"`hearth kb status {base}`"
                )
        found.append(BasePart.of(Extent.whole(path)))
    names = [part.about.name for part in found]
    if len(set(names)) != len(names):
        raise InvalidValue("two of the knowledge bases have one name")
    return found


@bundle.command("list")
@FILE
def list_file(file: Path) -> None:
    """Show what the executable FILE carries, and who signed it."""
    embedded = open_embedded(file)
    print(f"hearth {embedded.table.version} with the pack {embedded.pack}, {_signed_by(embedded)}")
    table = Table("model or base", "file", "at byte", "bytes", "sha256", box=None, padding=(0, 2, 0, 0))
    for model in embedded.list():
        for part in model.manifest.files:
            extent = embedded.extent(model.name, part.path)
            table.add_row(model.name, part.path, str(extent.start), str(extent.length), part.sha256)
    for base in embedded.table.bases:
        extent = embedded.base(base)
        documents = f"{base.documents} documents"
        table.add_row(base.name, documents, str(extent.start), str(extent.length), base.sha256)
    Console(width=None if Console().is_terminal else 160).print(table)


def _signed_by(embedded: Embedded) -> str:
    signer = embedded.signer()
    return "not signed" if signer is None else f"signed by {signer}"


@bundle.command()
@FILE
def verify(file: Path) -> None:
    """Check the signature of the executable FILE, hash every part of it, and compare.

    Where a key is pinned for executables (`hearth signing-key list`), another one is an error.
    """
    embedded = open_embedded(file)
    signer = embedded.require_signer()
    is_new = open_trust().check(EXECUTABLE, signer, embedded.table.version)
    with ProgressDisplay() as progress:
        verdicts = embedded.verify(progress)
    for verdict in verdicts:
        print(f"{verdict.state:8} {verdict.model}/{verdict.file}")
    pinned = "no key is pinned here yet" if is_new else "the key that is pinned here"
    print(f"signed by {signer}, {pinned}")
    if any(verdict.state != "sound" for verdict in verdicts):
        raise click.ClickException("the file is damaged; copy it again from where it came from")
