"""Makes the one-file executable: ``python build/bundle.py [PACK]`` writes dist/hearth, or dist/hearth-PACK.

launcher + the pack's models + the frozen program; the layout is the one in models/embedded.py. Beside the
executable it leaves its bill of materials, the licences of all that is inside, and SHA256SUMS.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from contents import Component, components
from freeze import ANALYSIS, freeze, needed_glibc
from native import NATIVE, SOURCE_DATE_EPOCH
from native_launcher import compile_launcher
from program_archive import write_archive
from sbom import bill_of_materials, licences
from setup_failure import Failure, SetupError, report
from setup_layout import ROOT, WORK
from wheel_cache import file_sha256

from appliance import paths
from appliance.version import VERSION
from models.bundle import Program, write_bundle
from models.errors import ModelError, UnknownModel
from models.manifest import Manifest
from models.pack import Pack, load_pack
from models.region import Extent
from models.signing import KeyRing, SigningKey, read_signing_key
from models.store import Installed, Store

DEFAULT_PACK = "tiny"
DIST = ROOT / "dist"
LOG = WORK / "bundle.log"
ARCHIVE = WORK / "program.archive"
REMEDY = "Models are fetched by: hearth models pull --pack PACK. Keys: hearth signing-key create"


def make_executable(pack: Pack) -> Path:
    """Freeze, pack and join. Raises SetupError, ModelError."""
    store = Store(paths.models(paths.home()))
    models = choose_models(pack, store)
    DIST.mkdir(exist_ok=True)
    with LOG.open("w", buffering=1) as log:
        folder = freeze(log)
    glibc_minor = needed_glibc(folder)
    index_sha256 = write_archive(folder, ARCHIVE, glibc_minor)
    launcher = Extent.whole(compile_launcher())
    program = Program(launcher, Extent.whole(ARCHIVE), index_sha256, VERSION)
    target = DIST / ("hearth" if pack.name == DEFAULT_PACK else f"hearth-{pack.name}")
    key = release_key()
    table = write_bundle(target, program, pack.name, models, store, key=key)
    sizes = {
        "program": table.launcher.bytes + table.program.bytes,
        "models": sum(f.bytes for f in table.files),
    }
    write_papers(target, components(ANALYSIS, NATIVE), [model.manifest for model in models])
    write_sums(DIST)
    print(
        f"{target.relative_to(ROOT)}: " + ", ".join(f"{what} {n / 1e6:.1f} MB" for what, n in sizes.items())
    )
    print(f"  signed by {key.verifying_key}")
    print(f"  runs on x86-64 with SSE4.2 and glibc 2.{glibc_minor} or newer; sha256 {file_sha256(target)}")
    return target


def release_key() -> SigningKey:
    """`$HEARTH_SIGNING_KEY`, or this home's key `release`, made if need be. Raises SigningKeyError."""
    named = os.environ.get("HEARTH_SIGNING_KEY")
    if named:
        return read_signing_key(Path(named))
    return KeyRing(paths.signing_keys(paths.home())).get_or_create("release")


def choose_models(pack: Pack, store: Store) -> list[Installed]:
    """The pack's models, or what stands in for them, as they would be installed. Raises UnknownModel."""
    chosen = []
    for model in pack.models:
        try:
            installed = store.get(model.name)
        except UnknownModel:
            if model.role not in pack.fallbacks:
                raise
            installed = store.get(pack.fallbacks[model.role])
        chosen.append(Installed(installed.manifest, "catalogue", float(SOURCE_DATE_EPOCH)))
    return chosen


def write_papers(executable: Path, found: list[Component], models: list[Manifest]) -> None:
    """The bill of materials and the licences, beside the executable."""
    bill = bill_of_materials(VERSION, file_sha256(executable), found, models)
    executable.with_name(f"{executable.name}.cdx.json").write_text(bill)
    executable.with_name(f"{executable.name}.licences.txt").write_text(licences(found, models))


def write_sums(folder: Path) -> None:
    """SHA256SUMS of everything in `folder`, in the form that sha256sum --check reads."""
    sums = folder / "SHA256SUMS"
    files = sorted(path for path in folder.iterdir() if path.is_file() and path != sums)
    sums.write_text("".join(f"{file_sha256(path)}  {path.name}\n" for path in files))


def main() -> int:
    """Exit status: 0 made, 1 failed with a reason, 2 wrong use."""
    words = sys.argv[1:]
    if len(words) > 1 or not all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", word) for word in words):
        sys.stderr.write("usage: python build/bundle.py [PACK]\n")
        return 2
    try:
        make_executable(load_pack(words[0] if words else DEFAULT_PACK))
    except SetupError as error:
        sys.stderr.write(report(error, str(LOG)))
        return 1
    except ModelError as error:
        sys.stderr.write(report(SetupError(Failure(error.message, REMEDY)), str(LOG)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
