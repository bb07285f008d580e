"""Models as an operator handles them, against a real server with small models."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.store import Store
from tests.conftest import require
from tests.serving import CHAT, share_files
from tests.tiny_model import tiny_gguf
from tests.tiny_server import StartTiny, TinyServer, held, long_answer
from tests.tui.operating import WIDE, operated, operating


@pytest.fixture
def tiny(start_tiny: StartTiny) -> TinyServer:
    return start_tiny(room_for=2)


@operated
async def test_a_model_is_loaded_after_its_estimate_was_shown(tiny: TinyServer) -> None:
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "bob", "cyd", "not loaded", "of the memory for chat models taken")
        await operator.press("down", "down", "l")
        await operator.sees("Load cyd?", "memory needed", "context", "unloaded to make")
        await operator.press("enter")
        await operator.until(lambda: tiny.states()["cyd"] == "ready", "cyd ready")
        await operator.sees("cyd is ready")


@operated
async def test_a_model_is_pinned_and_unloaded(tiny: TinyServer) -> None:
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "ready")
        await operator.press("k")
        await operator.sees("ready ⚓")
        await operator.press("k")
        await operator.sees_no("⚓")
        await operator.press("u")
        await operator.until(lambda: tiny.states()["ada"] == "unloaded", "ada unloaded")


@operated
async def test_models_are_fetched_where_the_mode_allows_it(start_tiny: StartTiny, tiny: TinyServer) -> None:
    require((CHAT,))
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2", "f")
        await operator.sees(
            "Nothing is fetched from a network here.", "the mode is offline", "hearth models pull"
        )
    online = start_tiny("routing.mode=hybrid", "pull=missing", "generator.memory=0")
    share_files(CHAT, Store(online.home / "models"))  # so that nothing has to leave this machine
    async with operating(online.url, WIDE) as operator:
        await operator.press("2", "f")
        await operator.sees("Fetch from the network", "pack tiny", "pack starter", CHAT)
        await operator.press(*["down"] * 3, "enter")
        await operator.sees(f"{CHAT} is here and can be asked")
        assert online.states()[CHAT] == "unloaded"


@operated
async def test_unloading_a_busy_model_asks_first_and_names_what_ends(tiny: TinyServer) -> None:
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "ready")
        with long_answer(tiny, "ada"), held(tiny, "ada"):
            await operator.sees("1 running")
            await operator.press("u")
            await operator.sees("Unload ada?", "end with an error: 1")
            await operator.press("enter")  # the hasty answer is no
            await operator.sees_no("Unload ada?")
            assert tiny.states()["ada"] == "ready"
            await operator.press("u")
            await operator.sees("Unload ada?")
            await operator.press("tab", "enter")
            await operator.until(lambda: tiny.states()["ada"] == "unloaded", "ada unloaded")


@operated
async def test_a_model_is_brought_in_from_a_stick_and_tried(tiny: TinyServer, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "dan.gguf").write_bytes(tiny_gguf(7, "dan"))
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "ready")
        await operator.press("i")
        await operator.sees("Bring in a model")
        await operator.press("shift+tab", "home", "ctrl+k")
        await operator.type(str(stick))
        await operator.press("enter")
        await operator.sees("● dan  gguf")
        await operator.press("enter")
        await operator.sees("What is the model to be called?")
        await operator.press("enter")
        await operator.sees("dan is here and can be asked")
        await operator.press("end", "ctrl+end", "down", "down", "down")
        await operator.sees("╭─ dan ─")
        await operator.press("t")
        await operator.sees("A prompt for dan")
        await operator.press("enter")
        await operator.sees("tokens/s", "first token")
        assert tiny.states()["dan"] == "ready"


@operated
async def test_what_is_no_model_is_refused_with_the_reason_and_the_next_step(
    tiny: TinyServer, tmp_path: Path
) -> None:
    (tmp_path / "broken.gguf").write_bytes(tiny_gguf(7, "dan")[:400])
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "ready")
        await operator.press("i")
        await operator.sees("Bring in a model")
        await operator.press("shift+tab", "home", "ctrl+k")
        await operator.type(str(tmp_path / "broken.gguf"))
        await operator.press("enter")
        await operator.sees("What is the model to be called?")
        await operator.press("enter")
        await operator.sees("✗ broken.gguf", "→")
        await operator.press("escape")
        await operator.sees_no("✗ broken.gguf")


@operated
async def test_the_files_of_a_model_are_verified(tiny: TinyServer) -> None:
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "ready")
        await operator.press("v")
        await operator.sees("All files of ada are sound")


@operated
async def test_a_request_is_ended_from_the_overview(tiny: TinyServer) -> None:
    async with operating(tiny.url, WIDE) as operator:
        with long_answer(tiny, "ada"), held(tiny, "ada"):
            await operator.sees("answers", "ada")
            await operator.press("x")
            await operator.sees("End the request to ada?", "whoever asked gets an")
            await operator.press("tab", "enter")
            await operator.sees("Nothing is asked at the moment")


@operated
async def test_a_server_that_leaves_and_comes_back_is_told_and_survived(
    tiny: TinyServer, start_tiny: StartTiny
) -> None:
    port = tiny.url.rpartition(":")[2]
    async with operating(tiny.url, WIDE) as operator:
        await operator.press("2")
        await operator.sees("ada", "● ready")
        tiny.stop()
        await operator.sees("no answer", "asked again every few seconds", "ada")
        start_tiny(f"port={port}")
        await operator.sees("● ready", "The server answers again")
        await operator.press("v")
        await operator.sees("All files of ada are sound")
