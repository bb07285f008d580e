"""An index finds what SQLite holds, whatever happened to it and to its file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.store import editions
from appliance.store.database import Connection
from appliance.store.index import Index
from appliance.store.indexes import Indexes
from tests.store.conftest import DIMENSIONS, Shelf

NEVER = threading.Event()


def open_index(shelf: Shelf, graph_from: int = 40, absorb_from: int = 10) -> Index:
    def work(connection: Connection) -> Index:
        edition = editions.get(connection, shelf.edition)
        return Index(shelf.database, shelf.directory, connection, edition, graph_from, absorb_from)

    return shelf.database.read(work)


def check(shelf: Shelf, index: Index, query: NDArray[np.float32]) -> None:
    """The index knows SQLite's chunks and no other, and its nearest are the nearest."""
    shelf.database.read(index.refresh)
    truth = shelf.truth()
    assert index.ids.tolist() == truth.added.tolist()
    ids, scores = index.search(query, 5)
    exact = truth.vectors @ query
    assert len(ids) == min(5, len(exact))
    places = np.searchsorted(truth.added, ids)
    np.testing.assert_allclose(scores, exact[places], atol=1e-5)
    # among so few, the graph's search is exact
    np.testing.assert_allclose(np.sort(scores)[::-1], np.sort(exact)[::-1][:5], atol=1e-5)


STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 30)),
    st.tuples(st.just("take"), st.integers(0, 1000)),
    st.tuples(st.just("maintain"), st.just(0)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("check"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(st.lists(STEP, max_size=25))
def test_any_history(make_shelf: Callable[[], Shelf], steps: list[tuple[str, int]]) -> None:
    shelf = make_shelf()
    index = open_index(shelf)
    there: list[int] = []
    for step, number in steps:
        match step:
            case "put":
                there.append(shelf.put(number))
            case "take" if there:
                shelf.take(there.pop(number % len(there)))
            case "maintain":
                index.maintain(NEVER)
            case "save":
                index.save()
            case "check":
                check(shelf, index, shelf.vectors(1)[0])
            case "reopen":
                index = open_index(shelf)
    check(shelf, index, shelf.vectors(1)[0])
    check(shelf, open_index(shelf), shelf.vectors(1)[0])


def test_a_graph_is_made_saved_and_loaded(shelf: Shelf) -> None:
    shelf.put(60)
    index = open_index(shelf)
    assert not index.has_graph
    assert index.needs_upkeep
    index.maintain(NEVER)
    assert index.has_graph
    assert len(list(shelf.directory.glob("*.graph"))) == 1
    again = open_index(shelf)
    assert again.has_graph
    assert not again.needs_upkeep
    check(shelf, again, shelf.vectors(1)[0])


def test_a_loaded_graph_is_brought_up_to_date(shelf: Shelf) -> None:
    first = shelf.put(50)
    index = open_index(shelf)
    index.maintain(NEVER)
    shelf.take(first)
    shelf.put(3)
    again = open_index(shelf)
    assert again.has_graph
    assert len(again) == 3
    check(shelf, again, shelf.vectors(1)[0])


def test_a_graph_full_of_the_dead_is_renewed(shelf: Shelf) -> None:
    documents = [shelf.put(20) for _ in range(4)]
    index = open_index(shelf)
    index.maintain(NEVER)
    for document in documents[:2]:
        shelf.take(document)
    shelf.database.read(index.refresh)
    assert index.needs_upkeep
    index.maintain(NEVER)
    assert not index.needs_upkeep or len(index) == 40
    check(shelf, index, shelf.vectors(1)[0])


def test_an_interrupted_build_changes_nothing(shelf: Shelf) -> None:
    shelf.put(200)
    index = open_index(shelf)
    stopped = threading.Event()
    stopped.set()
    index.maintain(stopped)
    assert not index.has_graph
    check(shelf, index, shelf.vectors(1)[0])


def test_searches_among_some_find_only_those(shelf: Shelf) -> None:
    shelf.put(300)
    index = open_index(shelf)
    index.maintain(NEVER)
    shelf.put(5)
    shelf.database.read(index.refresh)
    truth = shelf.truth()
    query = shelf.vectors(1)[0]
    for allowed in (truth.added[::7], truth.added[-4:], truth.added, truth.added[:0]):
        ids, scores = index.search(query, 10, allowed)
        expected = np.sort(truth.vectors[np.isin(truth.added, allowed)] @ query)[::-1][:10]
        assert set(ids.tolist()) <= set(allowed.tolist())
        np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("damage", ["truncate", "flip", "zero", "grow", "empty", "other edition"])
def test_a_damaged_file_is_not_used(shelf: Shelf, damage: str) -> None:
    shelf.put(60)
    open_index(shelf).maintain(NEVER)
    (path,) = shelf.directory.glob("*.graph")
    content = bytearray(path.read_bytes())
    match damage:
        case "truncate":
            content = content[: len(content) // 2]
        case "flip":
            content[len(content) // 3] ^= 16
        case "zero":
            content[200:400] = bytes(200)
        case "grow":
            content += b"\0"
        case "empty":
            content = bytearray()
        case "other edition":
            content[40] ^= 1
    path.write_bytes(content)
    index = open_index(shelf)
    assert not index.has_graph
    check(shelf, index, shelf.vectors(1)[0])
    index.maintain(NEVER)
    assert index.has_graph


def test_a_file_from_another_time_is_not_used(shelf: Shelf) -> None:
    """An old graph put back under the new one's name is sound in itself, and wrong."""
    shelf.put(60)
    index = open_index(shelf)
    index.maintain(NEVER)
    (path,) = shelf.directory.glob("*.graph")
    old = path.read_bytes()
    shelf.put(60)
    shelf.database.read(index.refresh)
    index.maintain(NEVER)
    index.save()
    (path,) = shelf.directory.glob("*.graph")
    path.write_bytes(old)
    assert not open_index(shelf).has_graph


def test_the_upkeep_thread_builds_and_close_saves(shelf: Shelf, tmp_path: Path) -> None:
    indexes = Indexes(shelf.database, tmp_path / "graphs", graph_from=40, absorb_from=10)
    shelf.put(100)
    index = shelf.database.read(lambda connection: indexes.get(connection, shelf.edition))
    made = threading.Event()
    while not index.has_graph:
        made.wait(0.01)
    indexes.close()
    again = Indexes(shelf.database, tmp_path / "graphs", graph_from=40, absorb_from=10)
    loaded = shelf.database.read(lambda connection: again.get(connection, shelf.edition))
    assert loaded.has_graph
    check(shelf, loaded, np.eye(DIMENSIONS, dtype=np.float32)[0])
    again.close()
