"""What every screen has, on the real server: bars, help, palette, language, a server that is not there."""

from __future__ import annotations

from tests.serving import Served
from tests.tui.operating import NARROW, operated, operating


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
