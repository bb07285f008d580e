"""`hearth pack`: signed packs of models, knowledge bases, settings and updates, for machines without a
network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from appliance import packs, paths
from appliance.cli.bundle import base_parts
from appliance.cli.options import URL
from appliance.cli.progress import ProgressDisplay
from appliance.cli.settings import open_history, open_library, open_store, settings_file, settings_loader
from appliance.cli.signing_key import KEY_OPTION, open_keys, open_trust
from appliance.config.history import write_whole
from appliance.errors import InvalidValue
from models.add import add as add_model
from models.library import Library
from models.pack_writer import Parts, make_pack
from models.signed_pack import PackTable, open_pack
from models.store import Installed, Store

PACK = click.argument("file", metavar="PACK", type=click.Path(exists=True, path_type=Path))
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def pack() -> None:
    """Make and install signed packs: models, knowledge bases, settings and updates on a stick.

    A pack is one file (a plain tar) or a directory. It is checked whole before anything of it is written.
    """


@pack.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What the pack is called. Default: after TARGET.")
@click.option("--version", default="1", show_default=True, help="Numbers with dots; lower ones are refused.")
@click.option("--description", default="", help="What is in it, for whoever installs it.")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL",
    help="A model: an installed one by its name, a GGUF file, or a directory with model.onnx. Several times.",
)  # fmt: skip
@click.option(
    "--kb", "bases", multiple=True, metavar="NAME",
    help="A knowledge base: one of the running server's, or an exported file. Several times.",
)  # fmt: skip
@click.option("--config", type=EXISTING_FILE, help="A hearth.toml to take on the other machine.")
@click.option("--update", type=EXISTING_FILE, help="A newer one-file executable.")
@click.option("--directory", is_flag=True, help="Write a directory, not one file.")
@KEY_OPTION
@URL
def make(
    target: Path,
    name: str | None,
    version: str,
    description: str,
    models: tuple[str, ...],
    bases: tuple[str, ...],
    config: Path | None,
    update: Path | None,
    directory: bool,
    key_name: str,
    url: str | None,
) -> None:
    """Write the pack TARGET and sign it."""
    if not (models or bases or config or update):
        raise InvalidValue("name what to put in: --model, --kb, --config or --update")
    if config is not None:
        _check_config(config.read_text("utf-8"))
    target = target.absolute()
    key = open_keys().get_or_create(key_name)
    with (
        tempfile.TemporaryDirectory(prefix=".hearth-pack-", dir=target.parent) as scratch,
        ProgressDisplay() as progress,
    ):
        library = open_library()
        own = Library(Store(Path(scratch) / "models"))
        chosen: list[tuple[Installed, Library]] = []
        for model in models:
            if model in {each.name for each in library.list()}:
                chosen.append((library.get(model), library))
            else:
                chosen.append((add_model(own.store, Path(model), progress=progress), own))
        parts = Parts(
            name=name or target.stem.lower(),
            version=version,
            description=description,
            models=chosen,
            bases=base_parts(bases, Path(scratch), url),
            config=config,
            update=update,
        )
        table = make_pack(target, parts, key, progress, as_directory=directory)
    print(f"{target.name} is written and signed by {key.verifying_key}")
    _print(table)


@pack.command()
@PACK
def verify(file: Path) -> None:
    """Check everything about PACK, as `install` does, and write nothing."""
    found = open_pack(file)
    with ProgressDisplay() as progress:
        is_new = packs.verify(found, _home(), progress)
    _print(found.table)
    print(_signed_by(found.signer, is_new))


@pack.command()
@PACK
def install(file: Path) -> None:
    """Check PACK and put everything in it in its place.

    The first pack of a name pins its key; another key, and a lower version, are refused from then on.
    """
    found = open_pack(file)
    home = _home()
    is_new = home.trust.check(found.table.name, found.signer, found.table.version)
    with ProgressDisplay() as progress:
        for done in packs.install(found, home, progress):
            print(done)
    print(f"{found.table.name} {found.table.version} is installed, {_signed_by(found.signer, is_new)}")


@pack.command("list")
@click.argument("file", metavar="[PACK]", required=False, type=click.Path(exists=True, path_type=Path))
def list_packs(file: Path | None) -> None:
    """Show what is in PACK; without it, which packs were installed here."""
    if file is not None:
        found = open_pack(file)
        _print(found.table)
        print(f"signed by {found.signer}")
        return
    pins = open_trust().pins()
    for name, pin in pins.items():
        print(f"{name:32} {pin.version:12} {pin.key}")
    if not pins:
        print("no pack was installed here")


def _home() -> packs.Home:
    return packs.Home(
        open_store(),
        paths.carried_bases(paths.home()),
        open_trust(),
        _check_config,
        _take_config,
        paths.bundle(),
    )


def _check_config(text: str) -> None:
    settings_loader()(text)


def _take_config(text: str) -> None:
    """The old text is kept in the history first, so that `hearth config rollback` leads back to it."""
    file, history = settings_file(), open_history()
    if file.exists() and (old := file.read_text("utf-8")) != text:
        history.record(old, "before a pack", ())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode())
    history.record(text, "pack", ())


def _print(table: PackTable) -> None:
    print(f"{table.name} {table.version}{': ' if table.description else ''}{table.description}")
    for model in table.models:
        print(f"  model      {model.name}, {model.role}, {model.bytes / 1e6:,.1f} MB, {model.licence}")
    for base in table.bases:
        print(f"  knowledge  {base.name}, {base.documents} documents, {base.file.bytes / 1e6:,.1f} MB")
    if table.config is not None:
        print("  settings   hearth.toml")
    if table.update is not None:
        print(f"  update     hearth {table.update.version}, {table.update.file.bytes / 1e6:,.1f} MB")


def _signed_by(signer: str, is_new: bool) -> str:
    told = "a key that is new here: compare it with its maker's" if is_new else "the key that is pinned here"
    return f"signed by {signer}, {told}"
