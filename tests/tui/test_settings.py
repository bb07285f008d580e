"""Settings as an operator changes them, on a real server: found, checked, taken in one step, taken back."""

from __future__ import annotations

from tests.tiny_server import TinyServer
from tests.tui.operating import WIDE, operated, operating


@operated
async def test_settings_are_noted_compared_taken_and_taken_back(box: TinyServer) -> None:
    file = box.home / "hearth.toml"
    before = file.read_text()
    async with operating(box.url, WIDE) as operator:
        await operator.press("8")
        await operator.sees("config_api", "after a restart")
        await operator.press("slash")
        await operator.type("temperature")
        await operator.press("enter")
        await operator.sees("temperature of requests that name none", "a number, 0 to 2")
        await operator.press("e")
        await operator.sees("generator.temperature")
        await operator.press("ctrl+u")
        await operator.type("9")
        await operator.press("enter")
        await operator.sees("out of range")
        await operator.press("backspace")
        await operator.type("0.5")
        await operator.press("enter")
        await operator.sees("1 noted and not applied yet", "● 0.5")
        await operator.press("a")
        await operator.sees("What is going to change", "− 0.7", "+ 0.5")
        await operator.press("tab", "enter")
        await operator.sees("is taken; settings changed: 1")
        assert "temperature = 0.5" in file.read_text()
        assert file.read_text().startswith("# The box in the cellar.")
        await operator.press("h")
        await operator.sees("Every configuration that was taken", "local (api)")
        await operator.press("down", "enter")
        await operator.sees("Go back to version")
        await operator.press("tab", "enter")
        await operator.until(lambda: file.read_text() == before, "the file as it was")


@operated
async def test_the_file_is_edited_whole_and_what_is_wrong_is_told(box: TinyServer) -> None:
    file = box.home / "hearth.toml"
    before = file.read_text()
    async with operating(box.url, WIDE) as operator:
        await operator.press("8")
        await operator.sees("config_api")
        await operator.press("t")
        await operator.sees("# The box in the cellar.")
        await operator.type("x")
        await operator.press("ctrl+s")
        await operator.sees("✗", "not valid TOML")
        await operator.press("escape")
        assert file.read_text() == before


@operated
async def test_what_a_flag_says_is_not_edited_here(box: TinyServer) -> None:
    async with operating(box.url, WIDE) as operator:
        await operator.press("8")
        await operator.sees("config_api")
        await operator.press("slash")
        await operator.type("knowledge.enabled")
        await operator.press("enter", "e")
        await operator.sees("is said by the server's command line", "then the file decides")
