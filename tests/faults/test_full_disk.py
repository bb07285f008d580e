"""A disk that fills up under the store: told, nothing corrupt, reads go on; with room again, all goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IN_NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]

PROGRAM = """
import sys
from pathlib import Path
from appliance.errors import StorageFull
from appliance.store import editions
from appliance.store.index import Index
import threading
from tests.store.conftest import Shelf

disk = Path(sys.argv[1])
shelf = Shelf(disk)
shelf.put(60)
filler = (disk / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
stored = 1
try:
    for _ in range(2000):
        shelf.put(40)
        stored += 1
except StorageFull as error:
    print("full:", error.status, error.message)
else:
    raise SystemExit("the disk never filled")
chunks = 60 + 40 * (stored - 1)
assert len(shelf.truth().added) == chunks, "a read after the failure"
index = shelf.database.read(
    lambda c: Index(shelf.database, disk, c, editions.get(c, shelf.edition), 50)
)
index.maintain(threading.Event())  # its file cannot be saved, which is only logged
assert index.has_graph
assert not list(disk.glob("*.graph")) and not list(disk.glob("*.partial"))
assert len(index) == chunks
filler.close()
(disk / "filler").unlink()
shelf.put(5)
assert len(shelf.truth().added) == chunks + 5
assert shelf.database.read(lambda c: c.pragma("integrity_check")) == "ok"
shelf.database.close()
print("done")
"""

IMPORTS = """
import sys
from pathlib import Path
from appliance import packs
from models.add import add
from models.errors import StoreFull
from models.pack_writer import Parts, make_pack
from models.progress import Advance, silent
from models.signed_pack import open_pack
from models.signing import SigningKey
from models.store import Store
from models.trust import Trust
from tests.commands import run_hearth
from tests.tiny_model import install, tiny_gguf

disk = Path(sys.argv[1])
outside, filler = disk.parent, disk / "filler"
store = Store(disk / "home" / "models")
home = packs.Home(
    store, disk / "carried", Trust(disk / "trust.json"), lambda text: None, lambda text: None, None
)
source = outside / "ada.gguf"
source.write_bytes(tiny_gguf(0, "ada"))
maker = Store(outside / "maker")
pack = outside / "gift"
parts = Parts(name="gift", version="1", models=[(install(maker, "bob", tiny_gguf(1, "bob")), maker)])
make_pack(pack, parts, SigningKey(bytes(32)))

def fill(event=None):
    if isinstance(event, Advance) or event is None:
        try:
            with filler.open("ab", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass

def written():
    files = {str(path): path.read_bytes() for path in disk.rglob("*") if path.is_file() and path != filler}
    return {name: content for name, content in files.items() if not name.endswith("lock")}

def take_pack(progress):
    return list(packs.install(open_pack(pack), home, progress))

before = written()
for number, work in enumerate([lambda tell: add(store, source, progress=tell), take_pack]):
    for tell in (fill, silent):  # it fills up in the middle; it is full from the beginning
        try:
            work(tell)
        except StoreFull as error:
            print("told:", error.message)
        else:
            raise SystemExit(f"import {number} went through on a full disk")
        assert written() == before, (number, sorted(written()))
done = run_hearth("models", "add", str(source), home=disk / "home")
assert done.returncode == 1 and "Traceback" not in done.stderr and "bytes free" in done.stderr, done.stderr
assert written() == before
filler.unlink()
add(store, source)
take_pack(silent)
assert [each.state for each in store.verify()] == ["sound", "sound"]
print("done")
"""


def in_disk(tmp_path: Path, size: str, program: str) -> str:
    """What the program prints that is given a disk of that size; fails when it fails."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size={size} tmpfs "{disk}" && exec "$@"'
    probe = subprocess.run([*IN_NAMESPACE, mounted, "sh", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no file system can be mounted in a user namespace here")
    words = [*IN_NAMESPACE, mounted, "sh", sys.executable, "-c", program, str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("done\n")
    return done.stdout


def test_a_full_disk(tmp_path: Path) -> None:
    assert "full: 507" in in_disk(tmp_path, "3m", PROGRAM)


def test_imports_on_a_full_disk_leave_nothing_and_go_through_later(tmp_path: Path) -> None:
    """Models from files and out of packs, on a disk that has room at first and then has not."""
    assert in_disk(tmp_path, "20m", IMPORTS).count("told: ") == 4
