"""Routing, audit, logs and the doctor as an operator looks at them, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import InvalidValue
from tests.tiny_server import TinyServer
from tests.tui.operating import WIDE, Operator, operated, operating
from tui import trails


@operated
async def test_a_dry_run_tells_where_a_request_would_go_and_why(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("5")
        await operator.sees("policy local-first", "ada", "big", "● well", "refused to leave: 0")
        await operator.press("w")
        await operator.sees("Where would this request go?")
        await operator.press("ctrl+s")
        await operator.sees("by local-first", "1. ada", "big")
        await operator.press("escape")
        await operator.sees("w tells where")


@operated
async def test_a_model_that_is_not_there_leaves_the_form_as_it_was_written(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("5")
        await operator.sees("policy local-first")
        await operator.press("w")
        await operator.sees("Where would this request go?")
        await operator.press("ctrl+u")
        await operator.type("nobody")
        await operator.press("enter")
        await operator.sees("✗", "nobody")


@operated
async def test_audit_lines_come_in_are_filtered_and_their_chain_is_checked(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("7")
        await operator.sees("Audit log", "the server began")
        box.ask("ada")
        await operator.sees("/v1/completions", "200")
        box.ask("missing")
        await operator.sees("404")
        await operator.press("slash")
        await operator.type("status:400")
        await operator.press("enter")
        await operator.sees_no("the server began")
        await operator.sees("404")
        await operator.press("slash")
        await operator.type(" nothing:1")
        await operator.press("enter")
        await operator.sees("There is no filter nothing")
        await operator.press("escape", "escape", "v")
        await operator.sees("Nobody has changed it.", "lines checked")


@operated
async def test_checkpoints_are_kept_and_the_log_is_compared_with_them(
    box: TinyServer, tmp_path: Path
) -> None:
    kept = tmp_path / "checkpoints.jsonl"

    async def write_path(operator: Operator, path: Path) -> None:
        await operator.press("home", "ctrl+k")
        await operator.type(str(path))
        await operator.press("enter")

    async with operating(box.url, WIDE) as operator:
        await operator.press("7")
        await operator.sees("Audit log", "the server began")
        for lines in (1, 2):
            await operator.press("c")
            await operator.sees("Keep a checkpoint at line")
            await write_path(operator, kept)
            await operator.until(lambda: kept.exists() and len(kept.read_text().splitlines()) == lines)  # noqa: B023
            box.ask("ada")
        await operator.press("k")
        await operator.sees("Compare the log with checkpoints")
        await write_path(operator, kept)
        await operator.sees("Nobody has changed it.", "agree with it: 2 of 2")
        await operator.press("escape")

        kept.write_text(kept.read_text().replace('"mac":"', '"mac":"00', 1))
        await operator.press("k")
        await operator.sees("Compare the log with checkpoints")
        await write_path(operator, kept)
        await operator.sees("It was changed.")
        await operator.press("escape")

        kept.write_text("no checkpoint\n")
        await operator.press("k")
        await operator.sees("Compare the log with checkpoints")
        await write_path(operator, kept)
        await operator.sees("Line 1 of the file is no checkpoint")


@operated
async def test_the_servers_own_log_is_followed(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("7")
        await operator.sees("Audit log", "/admin/v1/audit")
        await operator.press("l")
        await operator.sees("The server's own log", "ada is ready")
        await operator.press("slash")
        await operator.type("level:loud")
        await operator.press("enter")
        await operator.sees("There is no level loud")


@operated
async def test_the_doctor_looks_and_a_backup_is_made(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("9")
        await operator.sees("processor", "onnxruntime", "ada", seconds=60)
        await operator.press("b")
        await operator.sees("Back up the whole home?")
        await operator.press("ctrl+s")
        await operator.sees("✓ hearth-", "without the model files", seconds=60)


def test_a_filter_is_what_the_server_takes_and_words() -> None:
    found = trails.audit_filter("status:400 Model route:online sensitive")
    assert found == ({"status": 400, "route": "online", "sensitive": True}, ("model",))
    assert found.takes("POST /v1/MODELS")
    assert not found.takes("POST /v1/files")


@pytest.mark.parametrize("text", ["what:ever", "status:many", "status:1000"])
def test_a_filter_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        trails.audit_filter(text)
