"""The tables, module by module: whose things are whose, what is changed, what goes with what."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.errors import Forbidden, InvalidValue, NotFound, SetupError
from appliance.principal import LOCAL, Principal
from appliance.store import bases, documents, editions, files, folders, objects
from appliance.store.archive_migrations import ARCHIVE_MIGRATIONS
from appliance.store.database import Connection, Database
from appliance.store.migrations import MIGRATIONS, migrate
from appliance.store.objects import Kept, KeptItem
from appliance.store.rows import Batch, Counts, FolderFile, Page, StoredFile
from tests.store.conftest import DIMENSIONS, Shelf

ADA, BOB = Principal("ada"), Principal("bob")
FIRST = Page(limit=2, order="asc")


@pytest.fixture
def archive(tmp_path: Path) -> Database:
    return Database(tmp_path / "archive.db", lambda connection: migrate(connection, ARCHIVE_MIGRATIONS))


def kept(id: str, number: float, owner: str = "ada", **fields: object) -> Kept:
    given = {"kind": "response", "state": "done", "model": "m", "metadata": {}, "expires_at": None} | fields
    return Kept(id=id, owner=owner, created_at=number, body=b"{}", **given)  # type: ignore[arg-type]


def item(id: str, side: str = "in") -> KeptItem:
    return KeptItem(id=id, side=side, body=id.encode())


def test_objects_are_found_by_what_is_asked(archive: Database) -> None:
    def work(connection: Connection) -> None:
        for n in range(4):
            objects.add(connection, kept(f"r{n}", n, metadata={"even": str(n % 2 == 0)}), [])
        objects.add(connection, kept("other", 9, owner="bob"), [])
        objects.add(connection, kept("open", 5, state="queued", model="n"), [])

    archive.write(work).result()

    def ids(**asked: object) -> list[str]:
        found, _ = archive.read(
            lambda c: objects.find_page(c, ADA, "response", Page(limit=10, order="asc"), **asked)  # type: ignore[arg-type]
        )
        return [each.id for each in found]

    assert ids() == ["r0", "r1", "r2", "r3", "open"]
    assert ids(model="n") == ["open"]
    assert ids(metadata={"even": "True"}) == ["r0", "r2"]
    assert ids(metadata={"even": "True", "odd": "1"}) == []
    assert [each.id for each in archive.read(lambda c: objects.in_state(c, "response", ["queued"]))] == [
        "open"
    ]
    assert archive.read(lambda c: objects.count(c, ADA, "response")) == 5
    archive.close()


def test_objects_change_and_go(archive: Database) -> None:
    def work(connection: Connection) -> None:
        for n in range(5):
            objects.add(connection, kept(f"r{n}", n, expires_at=100.0 + n), [item(f"i{n}")])
        objects.update(connection, "r0", body=b"[1]", state="failed", metadata={"a": "b"})
        objects.update(connection, "r1", body=b"[2]", state="done")
        objects.remove_expired(connection, 101.0)
        objects.remove_oldest(connection, "response", 2)

    archive.write(work).result()
    assert not archive.read(lambda c: objects.exists(c, "r0"))
    assert not archive.read(lambda c: objects.exists(c, "r2"))
    assert archive.read(lambda c: objects.exists(c, "r3"))
    archive.write(lambda c: objects.update(c, "r3", body=b"[3]", state="new", metadata={"x": "y"})).result()
    found = archive.read(lambda c: objects.get(c, ADA, "response", "r3"))
    assert (found.body, found.state, found.metadata) == (b"[3]", "new", {"x": "y"})
    archive.write(lambda c: objects.remove(c, "r3")).result()
    with pytest.raises(NotFound):
        archive.read(lambda c: objects.get(c, ADA, "response", "r3"))
    with pytest.raises(NotFound):
        archive.read(lambda c: objects.item(c, ADA, "i3"))
    archive.close()


def test_items_keep_their_order_and_their_side(archive: Database) -> None:
    archive.write(lambda c: objects.add(c, kept("r", 1), [item("a"), item("b", "out"), item("c")])).result()
    archive.write(lambda c: objects.append(c, "r", [item("d")])).result()
    assert [each.id for each in archive.read(lambda c: objects.items(c, "r", 3))] == ["b", "c", "d"]
    assert archive.read(lambda c: objects.item_ids(c, "r")) == {"a", "b", "c", "d"}
    assert [each.id for each in archive.read(lambda c: objects.items_from(c, "r", 1, 2))] == ["b", "c"]
    page, has_more = archive.read(lambda c: objects.items_page(c, "r", FIRST, "in"))
    assert ([each.id for each in page], has_more) == (["a", "c"], True)
    assert archive.read(lambda c: objects.item(c, ADA, "b", "r")).body == b"b"
    with pytest.raises(NotFound):
        archive.read(lambda c: objects.item(c, BOB, "b"))
    archive.write(lambda c: objects.remove_item(c, "r", "a")).result()
    assert archive.read(lambda c: objects.count_items(c, "r")) == 3
    archive.close()


def test_pages_go_both_ways(archive: Database) -> None:
    def work(connection: Connection) -> None:
        for n in range(5):
            objects.add(connection, kept(f"r{n}", n), [])

    archive.write(work).result()

    def ids(page: Page) -> tuple[list[str], bool]:
        found, has_more = archive.read(lambda c: objects.find_page(c, ADA, "response", page))
        return [each.id for each in found], has_more

    assert ids(FIRST) == (["r0", "r1"], True)
    assert ids(Page(limit=2, order="asc", after="r1")) == (["r2", "r3"], True)
    assert ids(Page(limit=2, order="asc", after="r3")) == (["r4"], False)
    assert ids(Page(limit=2, order="desc", after="r3")) == (["r2", "r1"], True)
    assert ids(Page(limit=2, order="asc", before="r3")) == (["r1", "r2"], True)
    assert ids(Page(limit=2, order="desc", before="r3")) == (["r4"], False)
    for page in (Page(limit=2, after="nobody"), Page(limit=2, before="nobody")):
        with pytest.raises(InvalidValue, match="not in this list"):
            ids(page)

    archive.close()


def test_bases_are_read_by_their_readers_and_changed_by_their_owner(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    assert read(lambda c: bases.get_owned(c, LOCAL, shelf.base)).name == "shelf"
    with pytest.raises(NotFound):
        read(lambda c: bases.get_owned(c, ADA, shelf.base))
    write(lambda c: c.execute("INSERT INTO readers VALUES(?, ?)", (shelf.base, ADA.id)) and None).result()
    assert read(lambda c: bases.get(c, ADA, shelf.base)).id == shelf.base
    with pytest.raises(Forbidden):
        read(lambda c: bases.get_owned(c, ADA, shelf.base))
    assert read(lambda c: bases.is_name_taken(c, LOCAL, "shelf"))
    assert not read(lambda c: bases.is_name_taken(c, ADA, "shelf"))
    assert [each.id for each in read(lambda c: bases.find_page(c, ADA, FIRST))[0]] == [shelf.base]
    assert read(lambda c: bases.owner_of(c, shelf.base)) == LOCAL.id
    assert read(lambda c: bases.edition_of(c, shelf.base)).id == shelf.edition
    assert read(bases.all_current_editions) == {shelf.edition}
    for look in (bases.owner_of, bases.edition_of):
        with pytest.raises(NotFound):
            read(lambda c, look=look: look(c, "vs_nobody"))  # type: ignore[misc]


def test_a_base_is_found_by_a_name_that_is_its_own(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    assert read(lambda c: bases.find(c, LOCAL, "shelf")).id == shelf.base
    assert read(lambda c: bases.find(c, LOCAL, shelf.base)).id == shelf.base
    with pytest.raises(NotFound):
        read(lambda c: bases.find(c, LOCAL, "another"))
    base = read(lambda c: bases.get(c, LOCAL, shelf.base))

    write(lambda c: bases.add(c, msgspec.structs.replace(base, id="vs_twin"))).result()
    write(lambda c: bases.set_edition(c, "vs_twin", shelf.edition)).result()
    with pytest.raises(InvalidValue, match="several"):
        read(lambda c: bases.find(c, LOCAL, "shelf"))


def test_a_base_changes_as_told_and_no_further(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    write(lambda c: bases.update(c, shelf.base)).result()
    assert read(lambda c: bases.get(c, LOCAL, shelf.base)).name == "shelf"
    write(
        lambda c: bases.update(
            c, shelf.base, name="new", metadata={"a": "b"}, expires_days=3, keeps_expiry=False
        )
    ).result()
    write(lambda c: bases.touch(c, shelf.base)).result()
    found = read(lambda c: bases.get(c, LOCAL, shelf.base))
    assert (found.name, found.metadata, found.expires_days) == ("new", {"a": "b"}, 3)
    assert found.active_at > 1.0
    write(lambda c: editions.remove(c, shelf.edition)).result()
    write(lambda c: bases.remove(c, shelf.base)).result()
    with pytest.raises(NotFound):
        read(lambda c: bases.get(c, LOCAL, shelf.base))
    for look in (editions.get, editions.generation):
        with pytest.raises(NotFound):
            read(lambda c, look=look: look(c, shelf.edition))  # type: ignore[misc]


def test_documents_of_a_base(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    one, two = shelf.put(2), shelf.put(["alpha text", "beta"])
    write(lambda c: documents.set_text(c, one, "text of one", b"marks")).result()
    assert read(lambda c: documents.text(c, one)) == ("text of one", b"marks")
    assert read(lambda c: documents.text(c, two)) == ("", b"")
    write(lambda c: documents.set_attributes(c, one, {"year": 1999})).result()
    assert read(lambda c: documents.attributes_of(c, shelf.base)) == {one: {"year": 1999}, two: {}}
    assert read(lambda c: documents.get(c, shelf.base, "file-1")).id == one
    with pytest.raises(NotFound):
        read(lambda c: documents.get(c, shelf.base, "file-9"))
    page, has_more = read(lambda c: documents.find_page(c, shelf.base, FIRST, status="completed"))
    assert ([each.file for each in page], has_more) == (["file-1", "file-2"], False)
    assert [each.id for each in read(lambda c: documents.of_base(c, shelf.base))] == [one, two]
    assert read(lambda c: documents.counts(c, shelf.base)).completed == 2
    assert not write(lambda c: documents.set_status(c, one, "failed")).result(), "it has ended already"
    assert read(lambda c: editions.missing_documents(c, shelf.base, shelf.edition + 1, 9)) == [one]
    assert [chunk.text for chunk in read(lambda c: editions.chunks_of(c, shelf.edition, two))] == [
        "alpha text",
        "beta",
    ]
    ids = read(lambda c: editions.chunk_ids(c, shelf.edition, [two]))
    assert len(ids) == 2
    assert [hit.chunk.text for hit in read(lambda c: editions.hits(c, shelf.edition, [int(ids[1])]))] == [
        "beta"
    ]
    assert read(lambda c: editions.count_chunks(c, shelf.edition)) == 4


def test_documents_that_wait_and_batches(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    shelf.put(1)
    file = StoredFile(
        id="file-w", owner=LOCAL.id, name="w", purpose="assistants", bytes=1, sha256="", created_at=1.0,
        expires_at=None,
    )  # fmt: skip

    def add(connection: Connection) -> int:
        files.add(connection, file)
        documents.add_batch(connection, Batch(id="b1", base=shelf.base, created_at=1.0))
        return documents.add(
            connection, base=shelf.base, file="file-w", attributes={}, chunk_tokens=200, overlap_tokens=20,
            created_at=1.0, batch="b1",
        )  # fmt: skip

    id = write(add).result()
    with pytest.raises(InvalidValue, match="already"):
        write(
            lambda c: documents.add(
                c, base=shelf.base, file="file-w", attributes={}, chunk_tokens=200, overlap_tokens=20,
                created_at=1.0,
            )
        ).result()  # fmt: skip
    assert [each.id for each in read(lambda c: documents.waiting(c, 0, 9))] == [id]
    assert read(documents.count_waiting) == 1
    assert read(lambda c: documents.get_batch(c, shelf.base, "b1")).created_at == 1.0
    with pytest.raises(NotFound):
        read(lambda c: documents.get_batch(c, shelf.base, "b2"))
    write(lambda c: documents.set_replaces(c, id, "file-1")).result()
    assert sorted(write(lambda c: files.drop(c, "file-w")).result()) == ["file-1", "file-w"]
    assert read(files.all_ids) == set()


def test_a_batch_is_cancelled_where_it_is_not_over(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    shelf.put(1)
    write(lambda c: c.execute("UPDATE documents SET batch = 'b', status = 'in_progress'") and None).result()
    write(lambda c: documents.cancel_batch(c, "b")).result()
    assert read(lambda c: documents.counts(c, shelf.base, "b")).cancelled == 1


def test_a_document_without_chunks_is_empty_and_goes(shelf: Shelf) -> None:
    id = shelf.put(0, np.empty((0, 8), np.float32))
    assert len(shelf.truth().added) == 0
    shelf.take(id)
    assert shelf.database.read(lambda c: documents.find(c, id)) is None


def test_files_are_their_owners(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    shelf.put(1)
    shelf.put(1)
    page, has_more = read(lambda c: files.find_page(c, LOCAL, Page(limit=1, order="asc")))
    assert ([each.id for each in page], has_more) == (["file-1"], True)
    assert read(lambda c: files.find_page(c, ADA, FIRST)) == ([], False)
    write(lambda c: files.rename(c, "file-1", "renamed.txt")).result()
    assert read(lambda c: files.get(c, LOCAL, "file-1")).name == "renamed.txt"
    with pytest.raises(NotFound):
        read(lambda c: files.get(c, ADA, "file-1"))
    write(lambda c: c.execute("UPDATE files SET expires_at = 5 WHERE id = 'file-2'") and None).result()
    assert read(lambda c: files.expired_ids(c, 4.0)) == []
    assert read(lambda c: files.expired_ids(c, 5.0)) == ["file-2"]
    with pytest.raises(NotFound):
        read(lambda c: files.get(c, LOCAL, "file-2"))


def test_readers_are_replaced_and_told_in_order(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    write(lambda c: bases.set_readers(c, shelf.base, ("bob", "ada", "bob"))).result()
    assert read(lambda c: bases.readers_of(c, shelf.base)) == ("ada", "bob")
    write(lambda c: bases.set_readers(c, shelf.base, ("bob",))).result()
    assert read(lambda c: bases.get(c, BOB, shelf.base)).id == shelf.base
    with pytest.raises(NotFound):
        read(lambda c: bases.get(c, ADA, shelf.base))
    write(lambda c: bases.set_readers(c, shelf.base, ("*",))).result()
    assert read(lambda c: bases.get(c, ADA, shelf.base)).id == shelf.base


def test_a_base_takes_what_its_texts_and_vectors_take(shelf: Shelf) -> None:
    def used() -> int:
        return shelf.database.read(lambda c: bases.usage_bytes(c, shelf.base))

    assert used() == 0
    shelf.put(["some words", "more"])
    vectors = 2 * DIMENSIONS * 4
    assert used() == vectors
    shelf.database.write(lambda c: c.execute("UPDATE documents SET text_bytes = 14") and None).result()
    assert used() == vectors + 14


def test_documents_are_counted_by_status() -> None:
    assert Counts(in_progress=1, completed=20, failed=300, cancelled=4000).total == 4321


def test_watched_folders_and_what_became_of_their_files(shelf: Shelf) -> None:
    read, write = shelf.database.read, shelf.database.write
    folder = write(lambda c: folders.add(c, shelf.base, "/a")).result()
    with pytest.raises(InvalidValue, match="watches /a already"):
        write(lambda c: folders.add(c, shelf.base, "/a")).result()
    other = write(lambda c: folders.add(c, shelf.base, "/b")).result()
    assert read(lambda c: folders.get(c, shelf.base, folder.id)) == folder
    assert read(lambda c: folders.of_base(c, shelf.base)) == [folder, other]
    assert read(lambda c: folders.of_base(c, "vs_other")) == []
    assert read(folders.everywhere) == [folder, other]

    seen = FolderFile(path="x.md", sha256="1", file="file-1", problem="")
    refused = FolderFile(path="y.bin", sha256="2", file="", problem="no text")
    for each in (seen, refused):
        write(lambda c, each=each: folders.put_file(c, folder.id, each)).result()  # type: ignore[misc]
    assert read(lambda c: folders.files(c, folder.id)) == {"x.md": seen, "y.bin": refused}
    assert read(lambda c: folders.files(c, other.id)) == {}
    changed = msgspec.structs.replace(seen, sha256="3")
    write(lambda c: folders.put_file(c, folder.id, changed)).result()
    write(lambda c: folders.take_file(c, folder.id, "y.bin")).result()
    assert read(lambda c: folders.files(c, folder.id)) == {"x.md": changed}
    write(lambda c: folders.remove(c, folder.id)).result()
    assert read(folders.everywhere) == [other]
    assert read(lambda c: folders.files(c, folder.id)) == {}


def test_a_folder_that_is_not_watched_is_told(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        shelf.database.read(lambda c: folders.get(c, shelf.base, 7))


def test_steps_are_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken(connection: Connection) -> None:
        migrate(connection, (*MIGRATIONS, "CREATE TABLE good(x); CREATE TABLE good(x);"))

    with pytest.raises(Exception, match="good"):
        Database(tmp_path / "x.db", broken)
    database = Database(tmp_path / "x.db", migrate)
    assert database.read(lambda c: c.pragma("user_version")) == len(MIGRATIONS)
    database.close()
    with pytest.raises(SetupError, match="newer Hearth"):
        Database(tmp_path / "x.db", lambda connection: migrate(connection, MIGRATIONS[:1]))
