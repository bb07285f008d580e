"""What every screen has, on the real server: bars, help, palette, language, a server that is not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.serving import Served
from tests.tui.operating import NARROW, operated, operating
from tui import language, look
from tui.app import PLACES
from tui.screens.base import HearthScreen


@operated
async def test_the_first_screen_shows_the_server(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.sees("● ready", "offline", "smollm2-135m-instruct", server.url)


@operated
async def test_the_keys_of_a_screen_are_explained(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.sees("● ready")
        await operator.press("question_mark")
        await operator.sees("End request", "Everywhere", "Command palette")
        await operator.press("escape")
        await operator.sees_no("Everywhere")


@operated
async def test_the_language_changes_at_once(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.sees("● ready")
        await operator.press("ctrl+l")
        await operator.sees("就绪", "总览", "终止请求")
        await operator.press("ctrl+l")
        await operator.sees("Overview", "End request")


@operated
async def test_the_palette_finds_by_name(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.sees("● ready")
        await operator.press("ctrl+p")
        await operator.type("language: 中")
        await operator.sees("Language: 中文")
        await operator.press("enter")
        await operator.sees("总览")


@operated
async def test_ascii_draws_without_anything_else(server: Served) -> None:
    async with operating(server.url, ascii=True) as operator:
        await operator.sees("* ready", "offline")
        drawn = operator.text
        assert drawn.replace("\n", "").isascii(), {letter for letter in drawn if not letter.isascii()}


@operated
async def test_every_line_fits_a_small_terminal(server: Served) -> None:
    async with operating(server.url, NARROW, language="zh") as operator:
        await operator.sees("就绪")
        assert len(operator.text.splitlines()) == NARROW[1]


@operated
async def test_a_server_that_is_not_there_is_told_with_the_way_out() -> None:
    async with operating("http://127.0.0.1:9") as operator:
        await operator.sees("no answer", "http://127.0.0.1:9", "hearth serve")


LOOKS: dict[str, dict[str, Any]] = {
    **{theme.name: {"theme": theme.name} for theme in look.THEMES},
    "no colour": {"no_color": True},
    "ascii": {"ascii": True},
    "ascii, no colour": {"ascii": True, "no_color": True},
}


@pytest.mark.parametrize("name", LOOKS)
@operated
async def test_every_screen_comes_up_in_every_look(server: Served, name: str) -> None:
    async with operating(server.url, **LOOKS[name]) as operator:
        await operator.sees("ready", "offline")
        for number, place in enumerate(PLACES, start=1):
            await operator.press(f"alt+{number}")
            await operator.until(lambda place=place: operator.app.current_mode == place, place)
            await operator.sees(language.say(f"places.{place}"), "ready")
        await operator.press("f1")
        await operator.sees(language.say("frame.everywhere"))


@pytest.mark.parametrize("tongue", language.LANGUAGES)
@operated
async def test_the_keys_of_every_screen_fit_the_last_line_of_a_small_terminal(
    server: Served, tongue: str
) -> None:
    async with operating(server.url, NARROW, language=tongue) as operator:
        for number, place in enumerate(PLACES, start=1):
            await operator.press(f"alt+{number}")
            await operator.until(lambda place=place: operator.app.current_mode == place, place)
            help = f"? {language.say('frame.help')} "
            await operator.until(lambda help=help: help in operator.text.splitlines()[-1], place, seconds=10)


@operated
async def test_a_screen_on_its_way_out_knows_it_before_a_widget_is_gone(server: Served) -> None:
    looks, unaware = 0, []

    async def watch(screen: HearthScreen, names: list[str]) -> None:
        nonlocal looks
        while len(gone := [name for name in names if not screen.query(name)]) < len(names):
            looks += bool(gone)
            if gone and not screen._is_bare:
                unaware.append(gone)
            await asyncio.sleep(0)

    async with operating(server.url) as operator:
        await operator.sees("● ready")
        await operator.press("alt+9")
        await operator.sees(language.say("doctor.backups"))
        screen = operator.app.screen
        assert isinstance(screen, HearthScreen)
        names = [f"#{node.id}" for node in screen.walk_children() if node.id is not None]
        watching = asyncio.ensure_future(watch(screen, names))
    await asyncio.wait_for(watching, 10)
    assert looks > 0, "it was not seen between the first and the last of them"
    assert unaware == []
