"""Knowledge bases and their documents as rows, titles and checks of what was written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from textual.content import Content

from appliance.errors import InvalidValue
from tui import format
from tui.language import say
from tui.widgets.table import Cell

NAME_CELLS = 34
SIZE_CELLS = 18
REASON_CELLS = 24
STYLES = {
    "completed": "$text-success",
    "failed": "$text-error",
    "cancelled": "$foreground-muted",
    "in_progress": "$text-warning",
    "expired": "$text-error",
}
MARKS = {"completed": "✓", "failed": "✗", "cancelled": "–", "in_progress": "◌", "expired": "✗"}


def base_row(base: Mapping[str, Any]) -> tuple[Cell, ...]:
    counts = base["file_counts"]
    failed = Content.styled(str(counts["failed"]), "$text-error") if counts["failed"] else "–"
    return (
        format.shorten(base["name"], NAME_CELLS),
        f"{counts['completed']:,}",
        failed,
        format.size(base["usage_bytes"]),
        _base_state(base),
    )


def _base_state(base: Mapping[str, Any]) -> Content:
    counts, status = base["file_counts"], base["status"]
    text = say(f"base_state.{status}", read=counts["completed"] + counts["failed"], total=counts["total"])
    return Content.styled(f"{MARKS[status]} {text}", STYLES[status])


def title(base: Mapping[str, Any], view: str) -> str:
    """What the panel of a base's inside is called."""
    total = base["file_counts"]["total"]
    return say(f"knowledge.title_{view}", base=base["name"], count=total)


def document_rows(documents: Mapping[str, Mapping[str, Any]], room: int) -> dict[str, tuple[Cell, ...]]:
    """`room`: cells for a row; reasons are cut to what is left of it."""
    names = max((cell_len(each["filename"]) for each in documents.values()), default=0)
    left = max(REASON_CELLS, room - min(names, NAME_CELLS) - SIZE_CELLS)
    return {id: _document_row(each, left) for id, each in documents.items()}


def _document_row(document: Mapping[str, Any], room: int) -> tuple[Cell, ...]:
    status, error = document["status"], document["last_error"]
    text = error["message"] if error else say(f"document_state.{status}")
    return (
        format.shorten(document["filename"], NAME_CELLS),
        format.size(document["usage_bytes"]) if status == "completed" else "–",
        Content.styled(format.shorten(f"{MARKS[status]} {text}", room), STYLES[status]),
    )


def refused_rows(refused: Mapping[str, str]) -> dict[str, tuple[Cell, ...]]:
    """Documents that never reached the server."""
    return {
        f"refused:{path}": (
            format.shorten(path.rpartition("/")[2], NAME_CELLS),
            "–",
            Content.styled(f"{MARKS['failed']} {reason}", STYLES["failed"]),
        )
        for path, reason in refused.items()
    }


def folder_rows(folders: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Cell, ...]]:
    """Each folder, and under it the files that could not become documents."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for folder in folders:
        state = Content.styled(f"{MARKS['completed']} {say('knowledge.followed')}", STYLES["completed"])
        rows[folder["id"]] = (_end_of(folder["path"]), f"{folder['files']:,}", state)
        for problem in folder["problems"]:
            text = Content.styled(f"{MARKS['failed']} {problem['problem']}", STYLES["failed"])
            rows[f"{folder['id']}:{problem['path']}"] = (f"  {problem['path']}", "–", text)
    return rows


def _end_of(path: str) -> str:
    """The end of a path tells more than its beginning."""
    return path if cell_len(path) <= NAME_CELLS else f"…{path[1 - NAME_CELLS :]}"


def check_new_base(values: Mapping[str, str]) -> None:
    """Raises InvalidValue for a name that no base may have."""
    if not values["name"] or "@" in values["name"]:
        raise InvalidValue(say("knowledge.wrong_name"), param="name")
