"""What an index does at its edges: empty, nearly everything gone, too old, stopped in the middle."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.store import editions, graph_file
from appliance.store.exact import Exact
from appliance.store.index import Index
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


def test_exact_search_over_nothing_and_over_parts() -> None:
    nothing = Exact(DIMENSIONS)
    assert (len(nothing), len(nothing.ids), nothing.vectors.shape) == (0, 0, (0, DIMENSIONS))
    assert nothing.plus(np.empty(0, np.int64), np.empty((0, DIMENSIONS), np.float32)) is nothing
    assert nothing.without(np.empty(0, np.int64)) is nothing
    ids, scores = nothing.search(np.ones(DIMENSIONS, np.float32), 3)
    assert (len(ids), len(scores)) == (0, 0)
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    parts = nothing
    for number in range(40):
        parts = parts.plus(np.array([number]), vectors[number % DIMENSIONS : number % DIMENSIONS + 1])
    assert len(parts) == 40
    assert sorted(parts.ids.tolist()) == list(range(40))
    assert len(parts.without(np.arange(39))) == 1


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
    shelf.put(1500)
    index = opened(shelf)
    index.maintain(NEVER)
    truth = shelf.truth()
    query = truth.vectors[7]
    for allowed in (truth.added[:3], truth.added[::2], truth.added[:0], np.array([99_999])):
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
    indexes.forget(shelf.edition)  # perhaps in the middle of a save
    indexes.close()
    assert not list((shelf.directory / "graphs").glob(f"{shelf.edition}-*"))
