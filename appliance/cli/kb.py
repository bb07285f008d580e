"""`hearth kb`: knowledge bases of a running server, from making one to taking it elsewhere."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
import msgspec
from rich.console import Console
from rich.table import Table

from appliance.cli.options import URL
from appliance.client import RemoteError
from appliance.client.knowledge import KnowledgeClient, files_under
from appliance.errors import InvalidValue
from models.exported_base import MANIFEST, ExportedBase
from models.region import Extent

BATCH = 500
POLL_SECONDS = 0.2
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
        base = client.base(name)["id"]
        known = {d["attributes"].get("path"): d for d in client.documents(base)}
        added: list[dict[str, Any]] = []
        replaced: list[str] = []
        kept = refused = 0
        for title, path in files_under(paths):
            place = str(path.resolve())[-512:]
            old = known.get(place)
            try:
                with path.open("rb") as content:
                    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                    if _is_there(old, sha256):
                        kept += 1
                        continue
                    content.seek(0)
                    file = client.upload(title, content)
            except (RemoteError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error.message
                print(f"{path}: {reason}", file=sys.stderr)
                refused += 1
                continue
            added.append({"file_id": file["id"], "attributes": {"path": place, "sha256": sha256}})
            if old is not None:
                replaced.append(old["id"])
        failed = _put(client, base, added)
        for id in replaced:
            client.call("DELETE", f"/v1/files/{id}")
        print(f"{len(added) - failed} added, {kept} unchanged, {failed + refused} failed")
    if failed or refused:
        raise click.exceptions.Exit(1)


def _is_there(document: dict[str, Any] | None, sha256: str) -> bool:
    """Whether a document of that content has been read."""
    if document is None or document["status"] != "completed":
        return False
    return bool(document["attributes"].get("sha256") == sha256)


def _put(client: KnowledgeClient, base: str, files: list[dict[str, Any]]) -> int:
    """Put uploaded files into the base and wait until all are read; how many failed, each told."""
    failed = 0
    for begin in range(0, len(files), BATCH):
        batch = client.call(
            "POST", f"/v1/vector_stores/{base}/file_batches", {"files": files[begin : begin + BATCH]}
        )
        path = f"/v1/vector_stores/{base}/file_batches/{batch['id']}"
        while batch["status"] == "in_progress":
            counts = batch["file_counts"]
            if sys.stderr.isatty():
                print(f"\r{counts['completed'] + begin} of {len(files)} read", end="", file=sys.stderr)
            time.sleep(POLL_SECONDS)
            batch = client.call("GET", path)
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
        failed += batch["file_counts"]["failed"]
        if batch["file_counts"]["failed"]:
            for document in client.call("GET", f"{path}/files?filter=failed&limit=100")["data"]:
                print(f"{document['filename']}: {document['last_error']['message']}", file=sys.stderr)
    return failed


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
        for folder in client.call("GET", f"/v1/vector_stores/{base['id']}/folders")["data"]:
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
        if not files:
            if not yes:
                click.confirm(f"delete {name} with {len(documents)} documents?", abort=True)
            client.call("DELETE", f"/v1/vector_stores/{base['id']}")
            elsewhere = {each["id"] for other in client.bases() for each in client.documents(other["id"])}
            chosen = [each for each in documents if each["id"] not in elsewhere]
        else:
            chosen = [each for each in documents if each["id"] in files or each["filename"] in files]
            found = {each["id"] for each in chosen} | {each["filename"] for each in chosen}
            if missing := [file for file in files if file not in found]:
                raise InvalidValue(f"{name} has no document {', '.join(missing)}")
        for document in chosen:
            client.call("DELETE", f"/v1/files/{document['id']}")
        print(f"{len(chosen)} documents are deleted" + ("" if files else f", and {name} with them"))
        if not files and len(chosen) < len(documents):
            print(f"{len(documents) - len(chosen)} stay, because they are in another base too")


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
        written, left_out = write_export(client, name, file)
    print(f"{written} documents of {name} are in {file}")
    if left_out:
        print(f"{left_out} are not, because they could not be read or are still being read", file=sys.stderr)


def write_export(client: KnowledgeClient, name: str, file: Path) -> tuple[int, int]:
    """Write the base to the zip `file`: how many documents are in it, and how many could not be."""
    base = client.base(name)
    every = list(client.documents(base["id"]))
    documents = [each for each in every if each["status"] == "completed"]
    manifest = {
        "format": 1,
        "name": base["name"],
        "description": base["description"],
        "metadata": base["metadata"],
        "chunking_strategy": base["chunking_strategy"],
        "documents": [
            {
                "member": f"documents/{number:06}",
                "filename": each["filename"],
                "attributes": each["attributes"],
                "chunking_strategy": each["chunking_strategy"],
            }
            for number, each in enumerate(documents)
        ],
    }
    partial = file.with_name(file.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
            for number, each in enumerate(documents):
                with archive.open(f"documents/{number:06}", "w", force_zip64=True) as member:
                    client.download(each["id"], member)  # type: ignore[arg-type]
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return len(documents), len(every) - len(documents)


@kb.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it. Default: as it was called.")
@URL
def import_base(file: Path, name: str | None, url: str | None) -> None:
    """Make a base out of FILE, as `hearth kb export` wrote it."""
    with ExportedBase(Extent.whole(file)) as exported, KnowledgeClient(url) as client:
        about = msgspec.to_builtins(exported.manifest)
        options = {key: about[key] for key in ("description", "metadata", "chunking_strategy")}
        base = client.create(name or about["name"], **options)
        files = []
        for document in exported.manifest.documents:
            with exported.content(document) as content:
                uploaded = client.upload(document.filename, cast(BinaryIO, content))
            rest = msgspec.to_builtins(document)
            files.append(
                {
                    "file_id": uploaded["id"],
                    "attributes": rest["attributes"],
                    "chunking_strategy": rest["chunking_strategy"],
                }
            )
        failed = _put(client, base["id"], files)
    print(f"{len(files) - failed} documents are in {base['name']}, {failed} failed")
    if failed:
        raise click.exceptions.Exit(1)


def place_of(filename: str, place: dict[str, Any]) -> str:
    """Where a passage stands, for a reader."""
    parts = [filename, f"page {place['page']}" if place["page"] else "", place["heading"]]
    return ", ".join(part for part in parts if part)


def print_sources(citations: list[dict[str, Any]]) -> None:
    """Each cited passage once, by its number."""
    for number, cited in sorted({each["number"]: each for each in citations}.items()):
        print(f"[{number}] {place_of(cited['filename'], cited)}")
