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


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=3m tmpfs "{disk}" && exec "$@"'
    probe = subprocess.run([*IN_NAMESPACE, mounted, "sh", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no file system can be mounted in a user namespace here")
    words = [*IN_NAMESPACE, mounted, "sh", sys.executable, "-c", PROGRAM, str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "full: 507" in done.stdout
    assert done.stdout.endswith("done\n")
