"""The store on a real disk: what it shows is complete, what is wrong is noticed, failures leave nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.disk import free_bytes
from models.errors import HashMismatch, ManifestError, StoreBusy, StoreError, StoreFull, UnknownModel
from models.lock import exclusive
from models.manifest import Manifest, ModelFile
from models.partial import Partial
from models.pull import pull
from models.region import Extent
from models.sources.fetcher import Sources
from models.store import Store


@pytest.fixture
def filled(store: Store, chat: Manifest, embedder: Manifest, stick: Path) -> Store:
    for manifest in (chat, embedder):
        pull(store, manifest, Sources((stick,)))
    return store


def everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()} - {"lock"}


def test_shows_what_is_installed(filled: Store, chat: Manifest, chat_content: bytes) -> None:
    assert [model.name for model in filled.list()] == ["handmade", "handmade-embed"]
    assert filled.get("handmade").manifest == chat
    assert filled.has(chat)
    path = filled.path("handmade", "model.gguf")
    assert path.read_bytes() == chat_content
    assert not path.stat().st_mode & 0o222
    assert filled.extent("handmade", "model.gguf") == Extent(path, 0, len(chat_content))


@pytest.mark.parametrize("name", ["nobody", "../handmade", "", "a/b", "handmade.json\0"])
def test_an_unknown_name_lists_the_known_ones(filled: Store, name: str) -> None:
    with pytest.raises(UnknownModel, match="handmade, handmade-embed"):
        filled.get(name)


def test_an_unknown_file_lists_the_known_ones(filled: Store) -> None:
    with pytest.raises(ManifestError, match=r"it has model\.gguf"):
        filled.path("handmade", "tokenizer.json")


def test_verify_finds_one_flipped_bit_and_a_lost_file(filled: Store, embedder: Manifest) -> None:
    assert {verdict.state for verdict in filled.verify()} == {"sound"}
    graph, tokenizer = (filled.blob(file.sha256) for file in embedder.files)
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.chmod(0o644)
    graph.write_bytes(content)
    tokenizer.unlink()
    found = {(verdict.model, verdict.file): verdict.state for verdict in filled.verify()}
    assert found == {
        ("handmade", "model.gguf"): "sound",
        ("handmade-embed", "model.onnx"): "damaged",
        ("handmade-embed", "tokenizer.json"): "missing",
    }
    assert [verdict.state for verdict in filled.verify("handmade")] == ["sound"]
    assert not filled.has(embedder)
    with pytest.raises(StoreError, match="pull the model again"):
        filled.path("handmade-embed", "tokenizer.json")


def test_a_pull_repairs(filled: Store, chat: Manifest, chat_content: bytes, stick: Path) -> None:
    blob = filled.path("handmade", "model.gguf")
    blob.chmod(0o644)
    blob.write_bytes(b"x" * len(chat_content))
    pull(filled, chat, Sources((stick,)))
    assert blob.read_bytes() == chat_content


def test_remove_keeps_what_others_share(filled: Store, chat: Manifest) -> None:
    with filled.changing():
        shared = Manifest(
            name="twin", role="chat", format="gguf", files=chat.files, licence="MIT", context_length=64
        )
        filled.install(shared, "file")
    assert filled.remove("handmade") == 0
    assert filled.path("twin", "model.gguf").exists()
    assert filled.remove("twin") == chat.bytes
    assert filled.remove("handmade-embed") > 0
    assert everything(filled) == set()
    with pytest.raises(UnknownModel, match="known there: none"):
        filled.remove("twin")


def test_a_record_needs_its_blobs(store: Store, chat: Manifest) -> None:
    with pytest.raises(StoreError, match="nothing was installed"):
        store.install(chat, "catalogue")
    assert everything(store) == set()


def test_a_foreign_record_names_its_file(filled: Store) -> None:
    record = filled.root / "installed" / "handmade.json"
    record.write_text(record.read_text().replace('"origin"', '"orgin"'))
    with pytest.raises(ManifestError, match=r"handmade\.json: .*orgin"):
        filled.list()


def test_one_writer_at_a_time_and_its_name(store: Store) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from models.lock import exclusive\n"
            "with exclusive(Path(sys.argv[1]), 0): print('held', flush=True); sys.stdin.read()",
            str(store.root),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusy, match=f"process {holder.pid}"), store.changing(0.2):
            pass
    finally:
        holder.kill()  # the lock dies with its holder
        holder.communicate()
    with store.changing(5):
        pass


def test_what_a_dead_writer_left_is_cleared(store: Store) -> None:
    with exclusive(store.root, 0):
        leftover = store.root / "partial" / "scratch-dead"
        (leftover / "wheel").mkdir(parents=True)
        (leftover / "wheel" / "half.whl").write_bytes(b"x")
        (store.root / "installed" / ".new-torn").write_bytes(b"{")
    with store.changing():
        assert everything(store) == set()


def test_a_wrong_hash_leaves_nothing(store: Store) -> None:
    with store.partial("f", 4, "0" * 64) as partial:
        partial.write(b"abcd", "here")
        with pytest.raises(HashMismatch, match=r"expected sha256 0{64}, got 88d4266f"):
            partial.commit(store.blob("0" * 64), "here")
    with store.partial("f", 4, "0" * 64) as partial, pytest.raises(HashMismatch, match="more than 4 bytes"):
        partial.write(b"abcde", "here")
    with store.partial("f", 4, "0" * 64) as partial:
        partial.write(b"ab", "here")
        with pytest.raises(HashMismatch, match="only 2 of 4 bytes"):
            partial.commit(store.blob("0" * 64), "here")
    assert everything(store) == set()


def test_a_partial_goes_on_where_it_stopped_and_nothing_is_kept_of_nothing(store: Store) -> None:
    digest = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
    with store.partial("f", 4, digest):
        pass
    assert everything(store) == set()
    with store.partial("f", 4, digest) as partial:
        partial.write(b"ab", "here")
    with store.partial("f", 4, digest) as partial:
        assert (partial.size, partial.missing) == (2, 2)
        partial.write(b"cd", "there")
        partial.commit(store.blob(digest), "there")
    assert everything(store) == {f"blobs/sha256-{digest}"}


def test_refuses_what_cannot_fit_before_writing(store: Store) -> None:
    with pytest.raises(StoreFull) as refusal:
        store.partial("f", 1 << 43, "0" * 64)
    assert refusal.value.needed > 1 << 43
    assert abs(refusal.value.free - free_bytes(store.root)) < 1 << 32
    assert everything(store) == set()


_FILL = """
import sys
from pathlib import Path
from models.errors import StoreFull
from models.partial import Partial
path = Path(sys.argv[1]) / "f"
with Partial(path, "f", 8 << 20, None) as partial:
    try:
        while True:
            partial.write(bytes(1 << 18), "here")
    except StoreFull as full:
        print(full.needed > 0, full.free >= 0, path.exists())
"""


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    """On a real 1 MiB file system, mounted in a namespace of its own."""
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command[:4], "true"], capture_output=True).returncode:
        pytest.skip("this kernel allows no user namespaces")
    command += [str(tmp_path), sys.executable, _FILL]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


def test_a_partial_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"keep")
    os.symlink(tmp_path / "secret", tmp_path / "f")
    with pytest.raises(OSError, match="f"):
        Partial(tmp_path / "f", "f", 4, None)
    assert (tmp_path / "secret").read_bytes() == b"keep"


def test_a_root_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot make the model store"):
        Store(tmp_path / "file" / "store")


def test_holds_looks_at_sizes(filled: Store, chat: Manifest) -> None:
    file = chat.weights
    assert filled.holds(file)
    assert not filled.holds(ModelFile(file.path, file.bytes + 1, file.sha256))
