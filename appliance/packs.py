"""Installs a pack of the stick: checked whole, then its models, bases, settings and update, each to its
place.

Nothing is written before every byte was hashed and every format read. Then the pack's key and version are
pinned, so that a half-installed pack can only be finished, never undone by an older one. Installing again
changes nothing that is there. Knows neither the format (`models.signed_pack`) nor the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.installation import check_executable, place_executable, previous
from models.disk import require_free
from models.embedded import open_embedded
from models.errors import UnknownModel
from models.manifest import Manifest, ModelFile
from models.progress import Meter, Progress
from models.region import Region
from models.signed_pack import CONFIG, UPDATE, SignedPack, base_path, model_path
from models.store import Store
from models.trust import Trust


class Home(NamedTuple):
    """The places of one home that packs write to. `take_config` puts a checked hearth.toml in force."""

    store: Store
    carried_bases: Path
    trust: Trust
    check_config: Callable[[str], None]
    take_config: Callable[[str], None]
    executable: Path | None


def verify(pack: SignedPack, home: Home, progress: Progress) -> bool:
    """Everything that can be wrong with it here; whether its key is new. Writes nothing.

    Raises what `SignedPack.check` does, UntrustedSignature, VersionTooLow, NameTaken, ConfigError, StoreFull.
    """
    table = pack.table
    is_new = home.trust.check(table.name, pack.signer, table.version)
    pack.check(progress)
    for model in table.models:
        home.store.require_name(model, "pack")
    if table.config is not None:
        home.check_config(pack.config())
    if table.update is not None:
        check_executable(open_embedded(pack.extents[UPDATE]), home.trust)
    wanted = sum(item.bytes for path, item in table.files().items() if path not in (CONFIG, UPDATE))
    require_free(home.store.root, wanted)
    return is_new


def install(pack: SignedPack, home: Home, progress: Progress) -> Iterator[str]:
    """Puts everything in its place, after `verify`; a sentence for each thing done. Raises as `verify`,
    OSError.
    """
    verify(pack, home, progress)
    home.trust.pin(pack.table.name, pack.signer, pack.table.version)
    for model in pack.table.models:
        yield f"model {model.name}: {_install_model(pack, model, home.store, progress)}"
    for base in pack.table.bases:
        target = home.carried_bases / f"{base.file.sha256}.zip"
        if not target.is_file():
            home.carried_bases.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (
                home.store.changing(),
                home.store.partial(base.name, base.file.bytes, base.file.sha256) as copy,
            ):
                meter = Meter(progress, "bases", base.name, "copy", pack.path.name, base.file.bytes)
                with pack.open(base_path(base.file.sha256)) as region:
                    _fill(copy.write, region, copy.size, pack.path.name, meter)
                copy.commit(target, pack.path.name)
        yield f"knowledge base {base.name}: taken in when the server starts next"
    if pack.table.config is not None:
        home.take_config(pack.config())
        yield "settings: taken"
    if pack.table.update is not None:
        yield _update(pack, home)


def _install_model(pack: SignedPack, model: Manifest, store: Store, progress: Progress) -> str:
    with store.changing():
        try:
            if store.get(model.name).manifest == model and all(store.holds(file) for file in model.files):
                return "is there already"
        except UnknownModel:
            pass
        store.require_name(model, "pack")
        try:
            for file in model.files:
                if not store.holds(file):
                    _take_file(pack, model, file, store, progress)
            store.install(model, "pack")
        except BaseException:
            store.withdraw(model.files)
            raise
        store.drop_unreferenced()
    return "installed"


def _take_file(pack: SignedPack, model: Manifest, file: ModelFile, store: Store, progress: Progress) -> None:
    with store.partial(f"{model.name}/{file.path}", file.bytes, file.sha256) as copy:
        meter = Meter(progress, model.name, file.path, "copy", pack.path.name, file.bytes, copy.size)
        with pack.open(model_path(model.name, file.path)) as region:
            _fill(copy.write, region, copy.size, pack.path.name, meter)
        copy.commit(store.blob(file.sha256), pack.path.name)


def _fill(write: Callable[[bytes, str], None], region: Region, done: int, source: str, meter: Meter) -> None:
    while done < region.length:
        chunk = region.read(done, min(1 << 20, region.length - done))
        write(chunk, source)
        done += len(chunk)
        meter.advance(len(chunk))


def _update(pack: SignedPack, home: Home) -> str:
    embedded = open_embedded(pack.extents[UPDATE])
    version = embedded.table.version
    if home.executable is None:
        return f"update to {version}: left out, because this hearth runs from source"
    if not place_executable(embedded, home.executable):
        return f"update to {version}: is there already"
    home.trust.pin("hearth", embedded.require_signer(), version)
    return (
        f"update to {version}: {home.executable} is replaced; restart the server to run it "
        f"(what was there is {previous(home.executable)} beside it)"
    )
