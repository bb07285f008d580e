"""`hearth models`: what can be had, what is installed, and the way from one to the other."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from appliance.cli import residents
from appliance.cli.options import URL
from appliance.cli.progress import ProgressDisplay
from appliance.cli.settings import load_settings, open_library, open_store
from appliance.client import Client
from appliance.errors import HearthError, InvalidValue
from appliance.lineup import choose_models
from models.add import add as add_model
from models.errors import UnknownModel
from models.gguf import read_gguf
from models.manifest import Manifest
from models.pack import catalogue, load_pack
from models.pull import pull as pull_model
from models.pull import pull_pack
from models.sources.fetcher import Sources

LOCK_PATIENCE = 600.0  # seconds to wait for another pull to finish


@click.group()
def models() -> None:
    """List, fetch, add, check and remove models; load and unload those of a running server.

    Models lie in $HEARTH_HOME/models, every file under its own hash.
    """


for command in (residents.ps, residents.load, residents.unload, residents.pin, residents.unpin):
    models.add_command(command)


@models.command("list")
@URL
def list_models(url: str | None) -> None:
    """Show installed models, those that can be fetched and, where a server runs, how each is doing there."""
    running = _running(url)
    installed = {model.name: model for model in open_library().list()}
    table = Table("model", "for", "size", "languages", "licence", "state", box=None, padding=(0, 2, 0, 0))
    known = {model.name: model for model in catalogue().models()}
    for name, manifest in {**known, **{n: m.manifest for n, m in installed.items()}}.items():
        state = "installed" if name in installed else "can be pulled"
        state = running.get(name, state)
        table.add_row(
            name, manifest.role, _size(manifest.bytes), _languages(manifest), manifest.licence, state
        )
    Console(width=None if Console().is_terminal else 160).print(table)


def _running(url: str | None) -> dict[str, str]:
    """Each model's state in the running server; nothing where none answers, or an older one."""
    try:
        with Client(url) as client:
            return {each.name: residents.state_text(each) for each in client.model_statuses().data}
    except HearthError:
        return {}


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Show all that is known of the model NAME, its files and their hashes included."""
    library = open_library()
    try:
        manifest = library.get(name).manifest
        installed = True
    except UnknownModel:
        manifest, installed = catalogue().get(name), False
    print(f"{manifest.name}: {manifest.description}".rstrip(": "))
    facts = {
        "for": manifest.role,
        "state": "installed" if installed else "not installed",
        "licence": manifest.licence,
        "languages": _languages(manifest),
        "context": f"{manifest.context_length} tokens",
    }
    if manifest.pooling is not None:
        facts["dimensions"] = str(manifest.pooling.dimensions)
    if installed and manifest.format == "gguf":
        weights = library.extent(name, "model.gguf")
        header = read_gguf(weights.path, weights.start, weights.length)
        facts["architecture"] = f"{header.architecture}, {header.parameter_count / 1e6:,.0f} M parameters"
        facts["quantisation"] = header.quantization
    for label, text in facts.items():
        print(f"  {label:13}{text}")
    for file in manifest.files:
        print(f"  {file.path:16}{_size(file.bytes):>10}  sha256 {file.sha256}")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--pack", metavar="PACK", help="Fetch a whole pack: tiny or starter.")
@click.option(
    "--from",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look in this directory or stick first, and nowhere else if it has everything.",
)
def pull(names: tuple[str, ...], pack: str | None, directory: Path | None) -> None:
    """Fetch the models NAMES, or a pack; without either, the configured pack.

    Fetching goes on where it stopped, and a file with a wrong hash leaves nothing behind. Models that are
    there already are checked, and repaired if need be.
    """
    if names and pack:
        raise InvalidValue("give either model names or --pack, not both")
    store, sources = open_store(), Sources() if directory is None else Sources(directories=(directory,))
    with ProgressDisplay() as progress:
        if names:
            for name in names:
                pull_model(store, catalogue().get(name), sources, progress, wait=LOCK_PATIENCE)
                print(f"{name} is installed")
                tell_unserved(name)
        else:
            chosen = load_pack(pack or load_settings().pack)
            report = pull_pack(store, chosen, sources, progress, wait=LOCK_PATIENCE)
            for installed in report.installed:
                print(f"{installed.name} is installed")


def tell_unserved(name: str) -> None:
    """Say so where a server with the present settings would not serve the installed model."""
    try:
        settings = load_settings()
        served = [model.name for model in choose_models(settings, open_library())]
    except HearthError:
        return  # no server would start, and it would say why
    if name not in served:
        others = ", ".join(f'"{each}"' for each in [*served, name])
        where = "`models`" if settings.models else f"the pack {settings.pack!r}"
        print(f"It is not in {where}: to have it served at every start, set  models = [{others}]")


@models.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it. Default: after the file.")
@click.option("--base", metavar="MODEL", help="For a LoRA adapter: the model that it changes.")
@click.option("--scale", type=float, default=1.0, help="For a LoRA adapter: its strength. Default: 1.")
def add(path: Path, name: str | None, base: str | None, scale: float) -> None:
    """Add a model of your own from PATH: a GGUF file, or a directory with model.onnx and tokenizer.json.

    A GGUF file may also be a LoRA adapter; it is then chosen as MODEL+NAME. The file is checked before any
    engine sees it, and copied. The server serves it after its next start.
    """
    with ProgressDisplay() as progress:
        installed = add_model(
            open_store(),
            path,
            name,
            progress,
            wait=LOCK_PATIENCE,
            bases=open_library(),
            base=base,
            scale=scale,
        )
    adapter = installed.manifest.adapter
    served_as = installed.name if adapter is None else f"{adapter.base}+{installed.name}"
    print(f"{installed.name} is installed; a running server serves it as {served_as} after its next start")


@models.command()
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Hash every file of the model NAME, or of all models, and compare."""
    with ProgressDisplay() as progress:
        verdicts = open_store().verify(name, progress)
    for verdict in verdicts:
        print(f"{verdict.state:8} {verdict.model}/{verdict.file}")
    if any(verdict.state != "sound" for verdict in verdicts):
        raise click.ClickException("some files are damaged or missing; `hearth models pull` repairs them")


@models.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Remove the model NAME and the files that no other model uses."""
    store = open_store()
    size = store.get(name).manifest.bytes
    if not yes:
        click.confirm(f"remove {name} ({_size(size)})?", abort=True)
    freed = store.remove(name, LOCK_PATIENCE)
    print(f"{name} is removed; {_size(freed)} are free again")


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _languages(manifest: Manifest) -> str:
    shown = ", ".join(manifest.languages[:4])
    return f"{shown} and {len(manifest.languages) - 4} more" if len(manifest.languages) > 4 else shown
