"""The cache of vectors: what is kept, what goes, and that nothing that happens to its file matters."""

from __future__ import annotations

from pathlib import Path

from appliance.store.vector_cache import VectorCache


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def entries(*numbers: int) -> dict[bytes, bytes]:
    return {key(number): bytes([number % 256]) * 4 for number in numbers}


def test_what_was_put_is_found_in_memory_and_after_a_restart(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.db", 100)
    cache.put(entries(1, 2))
    assert cache.get([key(1), key(3)]) == entries(1)
    assert (cache.hits, cache.misses, cache.hit_rate) == (1, 1, 0.5)
    cache.close()
    again = VectorCache(tmp_path / "v.db", 100)
    assert again.get([key(1), key(2), key(4)]) == entries(1, 2)
    assert again.get([key(1)]) == entries(1), "from memory now"
    again.close()


def test_the_oldest_go(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.db", disk_entries=5, memory_entries=2)
    for number in range(20):
        cache.put(entries(number))
    cache.close()
    again = VectorCache(tmp_path / "v.db", 5)
    assert set(again.get([key(n) for n in range(20)])) == {key(n) for n in range(15, 20)}
    again.close()


def test_memory_alone_is_a_cache_too(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.db", disk_entries=0, memory_entries=2)
    cache.put(entries(1, 2, 3))
    assert set(cache.get([key(1), key(2), key(3)])) == {key(2), key(3)}
    cache.close()
    assert not (tmp_path / "v.db").exists()


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_bytes(b"no database at all" * 1000)
    cache = VectorCache(tmp_path / "v.db", 100)
    cache.put(entries(1))
    cache.close()
    again = VectorCache(tmp_path / "v.db", 100)
    assert again.get([key(1)]) == entries(1)
    again.close()


def test_a_place_that_cannot_be_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, no directory")
    cache = VectorCache(tmp_path / "file" / "v.db", 100)
    cache.put(entries(1))
    assert cache.get([key(1)]) == entries(1)
    assert cache.get([key(2)]) == {}
    cache.close()


def test_nothing_put_is_nothing_kept(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.db", 100)
    cache.put({})
    assert cache.get([key(1)]) == {}
    cache.close()
