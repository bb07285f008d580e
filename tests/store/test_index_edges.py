"""What an index does at its edges: empty, nearly everything gone, too old, stopped in the middle."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.errors import Unavailable
from appliance.store import editions, graph_file
from appliance.store import indexes as indexes_room
from appliance.store.exact import MOST_BLOCKS, Exact
from appliance.store.index import ABSORB_FROM, FEW, Index
from appliance.store.indexes import Indexes
from appliance.store.vectors import Graph
from tests.store.conftest import DIMENSIONS, Shelf

NEVER = threading.Event()


def opened(shelf: Shelf, graph_from: int = 40, absorb_from: int = 10) -> Index:
    return shelf.database.read(
        lambda c: Index(
            shelf.database, shelf.directory, c, editions.get(c, shelf.edition), graph_from, absorb_from
        )
    )


def until(holds: Callable[[], bool]) -> None:
    """The upkeep thread works by itself; fails when it never comes to it."""
    ends_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_exact_search_over_nothing_and_over_parts() -> None:
    nothing = Exact(DIMENSIONS)
    assert (len(nothing), len(nothing.ids), nothing.vectors.shape) == (0, 0, (0, DIMENSIONS))
    assert nothing.plus(np.empty(0, np.int64), np.empty((0, DIMENSIONS), np.float32)) is nothing
    assert nothing.without(np.empty(0, np.int64)) is nothing
    ids, scores = nothing.search(np.ones(DIMENSIONS, np.float32), 3)
    assert (len(ids), len(scores)) == (0, 0)
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    parts = nothing
    for number in range(MOST_BLOCKS + 5):
        parts = parts.plus(np.array([number]), vectors[number % DIMENSIONS : number % DIMENSIONS + 1])
    assert len(parts.blocks) < MOST_BLOCKS, "many small blocks become one"
    assert parts.ids.tolist() == list(range(MOST_BLOCKS + 5))
    assert len(parts.without(np.arange(MOST_BLOCKS + 4))) == 1


def test_a_graph_of_dead_nodes_finds_the_living() -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((300, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = Graph(DIMENSIONS, 400)
    assert graph.add(np.arange(300), vectors, NEVER)
    graph.bury(list(range(297)))
    ids, _ = graph.search(vectors[0], 10)
    assert sorted(ids.tolist()) == [297, 298, 299]
    graph.bury([297, 298, 299])
    assert len(graph.search(vectors[0], 10)[0]) == 0


@pytest.mark.parametrize(("dimensions", "count", "alive"), [(2, 1530, 153), (4, 1664, 1664)])
def test_equal_vectors_are_all_found(dimensions: int, count: int, alive: int) -> None:
    """hnswlib links near nodes only: among many equal ones it finds no way to some, and gives up."""
    vectors = np.zeros((count, dimensions), np.float32)
    vectors[:, 0] = 1
    graph = Graph(dimensions, count)
    assert graph.add(np.arange(count), vectors, NEVER)
    graph.bury(range(count - alive))
    for limit in (alive // 5, alive):
        ids, scores = graph.search(vectors[0], limit)
        assert len(set(ids.tolist())) == limit
        assert set(ids.tolist()) <= set(range(count - alive, count))
        np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_an_index_that_is_stopped_while_it_grows_is_as_before(shelf: Shelf) -> None:
    shelf.put(60)
    index = opened(shelf)
    stopped = threading.Event()
    stopped.set()
    index.maintain(stopped)
    assert not index.has_graph
    assert len(index) == 60
    index.maintain(NEVER)
    assert index.has_graph
    assert index.generation == shelf.truth().generation


def test_a_renewal_that_is_stopped_leaves_the_old_graph(shelf: Shelf) -> None:
    documents = [shelf.put(20) for _ in range(4)]
    index = opened(shelf)
    index.maintain(NEVER)
    for document in documents[:3]:
        shelf.take(document)
    shelf.database.read(index.refresh)
    assert index.needs_upkeep, "most of its nodes are dead"
    stopped = threading.Event()
    stopped.set()
    index.maintain(stopped)
    assert index.needs_upkeep
    assert index.ids.tolist() == shelf.truth().added.tolist()


def test_a_renewal_holds_what_came_while_it_was_made(shelf: Shelf) -> None:
    """SQLite is read for it later than the index was brought up to date: both must agree afterwards."""
    documents = [shelf.put(20) for _ in range(4)]
    index = opened(shelf)
    index.maintain(NEVER)
    for document in documents[:3]:
        shelf.take(document)
    shelf.database.read(index.refresh)
    shelf.take(documents[3])
    shelf.put(25)
    index.maintain(NEVER)
    shelf.database.read(index.refresh)
    truth = shelf.truth()
    assert index.ids.tolist() == truth.added.tolist()
    found, _ = index.search(truth.vectors[3], 1)
    assert found.tolist() == [truth.added[3]]


def test_what_is_gone_from_a_small_index_is_gone(shelf: Shelf) -> None:
    index = opened(shelf)
    first, _ = shelf.put(3), shelf.put(3)
    shelf.database.read(index.refresh)
    shelf.take(first)
    shelf.database.read(index.refresh)
    assert not index.has_graph
    truth = shelf.truth()
    assert index.ids.tolist() == truth.added.tolist()
    assert len(index) == 3
    held = index.vectors(np.append(truth.added, 99_999))
    assert list(held) == truth.added.tolist()
    np.testing.assert_array_equal(held[truth.added[0]], truth.vectors[0])


def test_a_refresh_that_another_has_made_changes_nothing(shelf: Shelf) -> None:
    """Two searches find the index old at once; the second gets the lock when the first has done the work."""
    index = opened(shelf)
    shelf.put(3)
    index._lock.acquire()
    threads = [threading.Thread(target=shelf.database.read, args=(index.refresh,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # both wait for the lock
    index._lock.release()
    for thread in threads:
        thread.join()
    assert index.ids.tolist() == shelf.truth().added.tolist()
    assert len(index) == 3


def test_a_disk_that_takes_no_index_costs_its_file_only(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shelf.put(60)
    index = opened(shelf)
    with monkeypatch.context() as patch:
        patch.setattr(graph_file, "write", full)
        index.maintain(NEVER)
    assert "could not be saved" in caplog.text
    assert index.has_graph
    assert not list(shelf.directory.glob("*.graph"))
    index.save()
    assert opened(shelf).has_graph


def test_an_index_that_has_missed_too_much_begins_anew(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editions, "REMEMBERED_GENERATIONS", 5)
    shelf.put(60)
    index = opened(shelf)
    index.maintain(NEVER)
    assert index.has_graph
    documents = [shelf.put(2) for _ in range(6)]
    for document in documents[:4]:
        shelf.take(document)
    shelf.database.read(index.refresh)
    assert index.ids.tolist() == shelf.truth().added.tolist()
    assert not index.has_graph, "it could not know what had gone"
    old = opened(shelf)
    assert not old.has_graph, "nor can the file be brought up to date"
    assert old.ids.tolist() == shelf.truth().added.tolist()


def test_vectors_are_given_from_graph_and_tail(shelf: Shelf) -> None:
    shelf.put(50)
    index = opened(shelf)
    index.maintain(NEVER)
    shelf.put(3)
    shelf.database.read(index.refresh)
    truth = shelf.truth()
    found = index.vectors(truth.added)
    assert sorted(found) == truth.added.tolist()
    for id, vector in zip(truth.added.tolist(), truth.vectors, strict=True):
        assert np.allclose(found[id], vector, atol=1e-6)
    assert index.vectors(np.array([10_000])) == {}


def test_a_search_among_few_and_among_many(shelf: Shelf) -> None:
    shelf.put(FEW + 1500)
    index = opened(shelf)
    index.maintain(NEVER)
    truth = shelf.truth()
    query = truth.vectors[7]
    among = [truth.added[:3], truth.added[: FEW + 700], truth.added[:0], np.array([99_999])]
    far = truth.added[
        np.argsort(truth.vectors @ query)[: FEW + 20]
    ]  # none of those that the graph finds first
    for allowed in (*among, np.sort(far)):
        ids, _ = index.search(query, 5, allowed)
        places = np.searchsorted(truth.added, allowed[allowed <= truth.added[-1]])
        exact = allowed[np.argsort(-(truth.vectors[places] @ query))[:5]] if len(places) else []
        assert set(ids.tolist()) == set(np.asarray(exact).tolist())


def test_graph_files_of_others_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(60)
    index = opened(shelf)
    index.maintain(NEVER)
    index.save()
    edition = shelf.database.read(lambda c: editions.get(c, shelf.edition))
    path = graph_file.path_of(shelf.directory, edition.id, edition.graph_generation)
    whole = path.read_bytes()
    other = msgspec.structs.replace(edition, base="vs_other")
    with pytest.raises(graph_file.Refused, match="another base"):
        graph_file.read(shelf.directory, other)
    faults = [
        (b"", "not a graph"),
        (b"x" * 300, "not a graph"),
        (whole[:-5], "cut short"),
        (whole + b"x", "has grown"),
    ]
    for content, said in faults:
        path.write_bytes(content)
        with pytest.raises(graph_file.Refused, match=said):
            graph_file.read(shelf.directory, edition)
    path.unlink()
    with pytest.raises(graph_file.Refused, match="cannot be read"):
        graph_file.read(shelf.directory, edition)
    assert not opened(shelf).has_graph


def test_indexes_forget_and_close(shelf: Shelf) -> None:
    shelf.put(60)
    indexes = Indexes(shelf.database, shelf.directory / "graphs", 40)
    indexes.refresh(shelf.edition)  # not open: nothing to do
    index = shelf.database.read(lambda c: indexes.get(c, shelf.edition))
    shelf.put(30)
    indexes.refresh(shelf.edition)
    assert len(index) == 90
    until(lambda: not index.needs_upkeep)
    shelf.put(2)
    indexes.refresh(shelf.edition)
    assert len(index) == 92
    assert shelf.database.read(lambda c: indexes.get(c, shelf.edition)) is index
    shelf.put(ABSORB_FROM)
    assert len(shelf.database.read(lambda c: indexes.get(c, shelf.edition)).ids) == 92 + ABSORB_FROM
    indexes.forget(shelf.edition)  # perhaps in the middle of a save
    indexes.close()
    assert not list((shelf.directory / "graphs").glob(f"{shelf.edition}-*"))


def test_files_that_no_edition_names_go_at_the_start(shelf: Shelf) -> None:
    shelf.put(60)
    directory = shelf.directory / "graphs"
    first = Indexes(shelf.database, directory, 40)
    index = shelf.database.read(lambda c: first.get(c, shelf.edition))
    until(lambda: index.has_graph)
    first.close()
    (kept,) = directory.glob("*.graph")
    (directory / "99-7.graph").write_bytes(b"of a base that is gone")
    (directory / f"{kept.name}.part").write_bytes(b"half")
    Indexes(shelf.database, directory, 40).close()
    assert list(directory.iterdir()) == [kept]


def test_only_so_many_stay_open_and_the_longest_unused_is_saved(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes_room, "OPEN_INDEXES", 1)
    shelf.put(60)
    second = shelf.database.write(lambda c: editions.add(c, shelf.base, "fake", "other", DIMENSIONS)).result()
    indexes = Indexes(shelf.database, shelf.directory / "graphs", 40)
    first = shelf.database.read(lambda c: indexes.get(c, shelf.edition))
    until(lambda: first.has_graph)
    shelf.database.read(lambda c: indexes.get(c, second))
    until(lambda: shelf.edition not in indexes._open)
    again = shelf.database.read(lambda c: indexes.get(c, shelf.edition))
    assert again is not first
    assert again.has_graph, "it was saved when it was let go of"
    indexes.close()


def test_upkeep_that_fails_is_told_and_goes_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Index, stop: threading.Event) -> None:
        refused.set()
        raise Unavailable("the database is closed")

    refused = threading.Event()
    shelf.put(60)
    indexes = Indexes(shelf.database, shelf.directory / "graphs", 40)
    with monkeypatch.context() as patch:
        patch.setattr(Index, "maintain", refuse)
        index = shelf.database.read(lambda c: indexes.get(c, shelf.edition))
        assert refused.wait(20)
    shelf.database.read(lambda c: indexes.get(c, shelf.edition))  # asks for upkeep once more
    until(lambda: index.has_graph)
    indexes.close()
    assert "was not kept up: the database is closed" in caplog.text
