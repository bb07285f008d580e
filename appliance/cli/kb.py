"""`hearth kb`: knowledge bases of a running server, from making one to taking it elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from appliance.cli.options import URL
from appliance.client import RemoteError
from appliance.client.documents import Adding, Export, Importing, remove_base, remove_files
from appliance.client.knowledge import KnowledgeClient
from appliance.errors import InvalidValue

SHOWN_CHARS = 300


@click.group()
def kb() -> None:
    """Make knowledge bases out of documents, and search them.

    A base is an OpenAI vector store: `hearth ask --kb NAME`, or the model name MODEL@NAME from any client,
    answers from it with its sources.
    """


@kb.command()
@click.argument("name")
@click.option("--description", default="", help="What is in it.")
@click.option("--embedder", metavar="MODEL", help="Embedding model. Default: the one with most languages.")
@URL
def create(name: str, description: str, embedder: str | None, url: str | None) -> None:
    """Make an empty knowledge base called NAME."""
    if not name or "@" in name:
        raise InvalidValue("a knowledge base needs a name, and one without @")
    with KnowledgeClient(url) as client:
        options = {"description": description} | ({"embedder": embedder} if embedder else {})
        made = client.create(name, **options)
        print(f"{name} is made ({made['id']}, embedded with {made['embedder']})")


@kb.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@URL
def add(name: str, paths: tuple[Path, ...], url: str | None) -> None:
    """Put the documents PATHS, files or whole folders, into the base NAME.

    A document that is there unchanged is left alone, one that has changed is replaced.
    """
    with KnowledgeClient(url) as client:
        adding = Adding(client, client.base(name)["id"], paths)
        _tell(adding)
    print(f"{adding.read} added, {adding.unchanged} unchanged, {adding.failed} failed")
    if adding.failed:
        raise click.exceptions.Exit(1)


def _tell(putting: Adding | Importing) -> None:
    """Does it, with a count where somebody watches, and says what failed."""
    is_watched = sys.stderr.isatty()
    try:
        for outcome in putting:
            if outcome.state == "failed":
                print(f"{outcome.name}: {outcome.reason}", file=sys.stderr)
            if is_watched:
                print(
                    f"\r{putting.sent} of {putting.total} sent, {putting.read} read", end="", file=sys.stderr
                )
    except BaseException:
        putting.take_back()
        raise
    if is_watched:
        print("\r", end="", file=sys.stderr)


@kb.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--stop", is_flag=True, help="Follow it no more; its documents stay.")
@URL
def watch(name: str, folder: Path, stop: bool, url: str | None) -> None:
    """Let the base NAME follow FOLDER: what is added, changed, renamed or deleted there."""
    path = str(folder.expanduser().resolve())
    with KnowledgeClient(url) as client:
        place = f"/v1/vector_stores/{client.base(name)['id']}/folders"
        if not stop:
            client.call("POST", place, {"path": path})
            print(f"{name} follows {path}")
            return
        found = [each for each in client.call("GET", place)["data"] if each["path"] == path]
        if not found:
            raise InvalidValue(f"{name} does not follow {path}")
        client.call("DELETE", f"{place}/{found[0]['id']}")
        print(f"{name} does not follow {path} any more")


def _folders(client: KnowledgeClient, base: str) -> list[dict[str, Any]]:
    """Those that the base follows; none for somebody who may only read it."""
    try:
        found: list[dict[str, Any]] = client.call("GET", f"/v1/vector_stores/{base}/folders")["data"]
    except RemoteError as error:
        if error.detail_code != "forbidden":
            raise
        return []
    return found


@kb.command()
@click.argument("name")
@click.argument("readers", nargs=-1)
@click.option("--with-all", is_flag=True, help="Everybody may read it.")
@click.option("--with-nobody", is_flag=True, help="Nobody else may read it any more.")
@URL
def share(name: str, readers: tuple[str, ...], with_all: bool, with_nobody: bool, url: str | None) -> None:
    """Let the keys READERS read the base NAME, in place of those that might; alone, show them."""
    with KnowledgeClient(url) as client:
        place = f"/v1/vector_stores/{client.base(name)['id']}/readers"
        if readers or with_all or with_nobody:
            wanted = ["*"] if with_all else [] if with_nobody else list(readers)
            found = client.call("PUT", place, {"readers": wanted})
        else:
            found = client.call("GET", place)
    print(f"{name} may be read by: {', '.join(found['readers']) or 'its owner only'}")


@kb.command()
@click.argument("name", required=False)
@URL
def status(name: str | None, url: str | None) -> None:
    """Show all bases, or what is in the base NAME and what could not be read."""
    with KnowledgeClient(url) as client:
        if name is None:
            _print_bases(client.bases())
            return
        base = client.base(name)
        _print_bases([base])
        for folder in _folders(client, base["id"]):
            print(f"follows {folder['path']}: {folder['files']} files")
            for problem in folder["problems"]:
                print(f"  {problem['path']}: {problem['problem']}")
        for document in client.documents(base["id"]):
            reason = f": {document['last_error']['message']}" if document["last_error"] else ""
            print(f"{document['status']:12}{document['id']}  {document['filename']}{reason}")


def _print_bases(bases: list[dict[str, Any]]) -> None:
    table = Table(
        "base", "id", "documents", "failed", "size", "embedder", "state", box=None, padding=(0, 2, 0, 0)
    )
    for base in bases:
        counts = base["file_counts"]
        table.add_row(
            base["name"],
            base["id"],
            str(counts["completed"]),
            str(counts["failed"]),
            f"{base['usage_bytes'] / 1e6:,.1f} MB",
            base["embedder"],
            base["status"],
        )
    Console(width=None if Console().is_terminal else 160).print(table)


@kb.command()
@click.argument("name")
@click.argument("question", nargs=-1, required=True)
@click.option("--results", type=click.IntRange(1, 50), default=5, help="How many passages. Default: 5.")
@click.option("--timings", is_flag=True, help="Say what each stage took.")
@URL
def search(name: str, question: tuple[str, ...], results: int, timings: bool, url: str | None) -> None:
    """Find the passages of the base NAME that answer QUESTION."""
    with KnowledgeClient(url) as client:
        found = client.call(
            "POST",
            f"/v1/vector_stores/{client.base(name)['id']}/search",
            {"query": " ".join(question), "max_num_results": results, "timings": timings},
        )
    for number, hit in enumerate(found["data"], 1):
        print(f"[{number}] {place_of(hit['filename'], hit['place'])}  (score {hit['score']:.2f})")
        print(f"    {' '.join(hit['content'][0]['text'].split())[:SHOWN_CHARS]}")
    if not found["data"]:
        print("nothing was found")
    for stage, seconds in (found["timings"] or {}).items():
        print(f"{stage:12}{seconds * 1000:8.1f} ms")


@kb.command()
@click.argument("name")
@click.argument("files", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask.")
@URL
def remove(name: str, files: tuple[str, ...], yes: bool, url: str | None) -> None:
    """Delete the base NAME with all its documents; or only FILES, by file id or file name."""
    with KnowledgeClient(url) as client:
        base = client.base(name)
        documents = list(client.documents(base["id"]))
        if files:
            chosen = [each for each in documents if each["id"] in files or each["filename"] in files]
            found = {each["id"] for each in chosen} | {each["filename"] for each in chosen}
            if missing := [file for file in files if file not in found]:
                raise InvalidValue(f"{name} has no document {', '.join(missing)}")
            remove_files(client, [each["id"] for each in chosen])
            print(f"{len(chosen)} documents are deleted")
            return
        if not yes:
            click.confirm(f"delete {name} with {len(documents)} documents?", abort=True)
        removed = remove_base(client, base["id"])
    print(f"{removed.documents} documents are deleted, and {name} with them")
    if removed.kept:
        print(f"{removed.kept} stay, because they are in another base too")


@kb.command()
@click.argument("name")
@click.option("--embedder", metavar="MODEL", help="Embed with another model from now on.")
@URL
def reindex(name: str, embedder: str | None, url: str | None) -> None:
    """Make every chunk and vector of the base NAME anew. It answers all the while."""
    with KnowledgeClient(url) as client:
        body = {"embedder": embedder} if embedder else {}
        done = client.call("POST", f"/v1/vector_stores/{client.base(name)['id']}/reindex", body)
        print(f"{done['documents']} documents are made anew")


@kb.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@URL
def export_base(name: str, file: Path, url: str | None) -> None:
    """Write the base NAME to FILE, a zip of its documents as they were put in, to take it elsewhere."""
    with KnowledgeClient(url) as client:
        export = Export(client, client.base(name), file)
        for _ in export:
            pass
    print(f"{export.written} documents of {name} are in {file}")
    if export.left_out:
        print(
            f"{export.left_out} are not, because they could not be read or are still being read",
            file=sys.stderr,
        )


@kb.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it. Default: as it was called.")
@URL
def import_base(file: Path, name: str | None, url: str | None) -> None:
    """Make a base out of FILE, as `hearth kb export` wrote it."""
    with KnowledgeClient(url) as client:
        importing = Importing(client, file, name or "")
        _tell(importing)
    print(f"{importing.read} documents are in {importing.name}, {importing.failed} failed")
    if importing.failed:
        raise click.exceptions.Exit(1)


def place_of(filename: str, place: dict[str, Any]) -> str:
    """Where a passage stands, for a reader."""
    parts = [filename, f"page {place['page']}" if place["page"] else "", place["heading"]]
    return ", ".join(part for part in parts if part)


def print_sources(citations: list[dict[str, Any]]) -> None:
    """Each cited passage once, by its number."""
    for number, cited in sorted({each["number"]: each for each in citations}.items()):
        print(f"[{number}] {place_of(cited['filename'], cited)}")
