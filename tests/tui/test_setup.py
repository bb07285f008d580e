"""The first time somebody opens the UI, on a real server: step by step, skipped, and not offered again."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from appliance.admin import ModelStatus, ModelStatusList
from appliance.configuration import ConfigStatus, SettingChange, SettingList, SettingStatus
from appliance.errors import InvalidValue
from tests.tiny_server import StartTiny, TinyServer
from tests.tui.operating import operated, operating
from tests.tui.test_access import status_with
from tui import setting_up

WELCOME = "Models on this machine"


@operated
async def test_a_new_server_is_set_up_step_by_step(start_tiny: StartTiny, tmp_path: Path) -> None:
    tiny, kept, saved = start_tiny(room_for=2), tmp_path / "tui.json", tmp_path / "boss.key"
    async with operating(tiny.url, kept=kept, offers_setup=True) as operator:
        await operator.sees(WELCOME, "ada", "bob", "cyd", "answers questions", "fits, not tried")
        await operator.press("t")
        await operator.sees("All of them load.")
        await operator.press("n")
        await operator.sees(f"OPENAI_BASE_URL={tiny.url}/v1", "programs on this machine only")
        await operator.press("n")
        await operator.sees("There is none yet", "Make the admin's key")
        await operator.press("enter")
        await operator.sees("The first key is an admin's")
        await operator.press("ctrl+u")
        await operator.type("boss")
        await operator.press("enter")
        await operator.sees("The key boss", "It is shown this once")
        await operator.press("s")
        await operator.sees("Save the key to a file")
        await operator.press("home", "ctrl+k")
        await operator.type(str(saved))
        await operator.press("enter")
        await operator.sees("Written to")
        await operator.press("enter")
        await operator.sees("That is all.")
        await operator.press("b")
        await operator.sees("Keys in force: 1", "This window uses boss.", "It was saved to")
        await operator.press("n", "n")
        await operator.sees("Overview", "Requests under way")
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    key = saved.read_text().strip()
    assert status_with(tiny.url, key) == 200
    assert status_with(tiny.url, "") == 401

    async with operating(tiny.url, key=key, offers_setup=True) as operator:  # another user of this machine
        await operator.sees("Requests under way")
        await operator.sees_no("connecting")
        await operator.pilot.pause(0.5)
        assert WELCOME not in operator.text


@operated
async def test_a_skipped_setup_is_not_offered_again_and_is_in_the_palette(
    box: TinyServer, tmp_path: Path
) -> None:
    kept = tmp_path / "tui.json"
    async with operating(box.url, kept=kept, offers_setup=True) as operator:
        await operator.sees(WELCOME, "ada")
        await operator.press("s")
        await operator.sees("Skipped.")
        await operator.sees("Requests under way")  # once the message has gone from before it
    async with operating(box.url, kept=kept, offers_setup=True) as operator:
        await operator.sees("● ready", "Requests under way")
        await operator.pilot.pause(0.5)
        assert WELCOME not in operator.text
        await operator.press("ctrl+p")
        await operator.type("set up this")
        await operator.sees("Set up this server")
        await operator.press("enter")
        await operator.sees(WELCOME)


@operated
async def test_who_goes_elsewhere_is_asked_again_the_next_time(box: TinyServer, tmp_path: Path) -> None:
    kept = tmp_path / "tui.json"
    for _ in range(2):
        async with operating(box.url, kept=kept, offers_setup=True) as operator:
            await operator.sees(WELCOME)
            await operator.press("1")
            await operator.sees("Requests under way")


def model(**changes: object) -> ModelStatus:
    known = ModelStatus(
        name="m", role="chat", state="unloaded", progress=0, worker="m", context_length=512, bytes_estimated=5
    )
    return msgspec.structs.replace(known, **changes)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (model(state="ready"), "✓ in memory"),
        (model(), "○ fits, not tried"),
        (model(bytes_estimated=11), "✗ too large"),
        (model(state="loading", progress=0.5), "loading 50%"),
        (model(state="failed", error="unknown architecture"), "✗ unknown architecture"),
    ],
)
def test_each_model_has_a_verdict(status: ModelStatus, words: str) -> None:
    assert setting_up.verdict(status, memory=10).plain == words


def test_what_is_missing_among_the_models_is_told() -> None:
    def told(*roles: str) -> str:
        data = tuple(model(name=role, role=role) for role in roles)
        return setting_up.summary(ModelStatusList(data=data, memory=10, memory_resident=0)).plain

    assert "pull" in told()
    assert "chat model" in told("embed")
    assert "embedding model" in told("chat")
    assert told("chat", "embed").startswith("Enough")


def address(host: str, *, can_change: bool, is_fixed: bool, later: int | None = None) -> str:
    def setting(key: str, value: object) -> SettingStatus:
        return SettingStatus(
            key=key, kind="text", description="", value=value, default=value, source="flag",
            is_fixed=is_fixed, needs_restart=True,
        )  # fmt: skip

    change = SettingChange(key="port", before=8080, after=later, needs_restart=True)
    config = ConfigStatus(
        file="/h/hearth.toml", version=1, settings={}, pending=(change,) if later else (), error=None
    )
    settings = SettingList(data=(setting("host", host), setting("port", 8080)), can_change=can_change)
    return setting_up.address_text("http://box", setting_up.address_of(settings, config)).plain


def test_the_address_says_who_reaches_it_and_how_to_have_another() -> None:
    assert "this machine only (127.0.0.1)" in address("127.0.0.1", can_change=True, is_fixed=False)
    assert "other machines too (0.0.0.0)" in address("0.0.0.0", can_change=True, is_fixed=False)
    assert "p changes the port" in address("127.0.0.1", can_change=True, is_fixed=False)
    assert "port = 9000 into /h/hearth.toml" in address("127.0.0.1", can_change=False, is_fixed=False)
    assert "given at the start (flag)" in address("127.0.0.1", can_change=True, is_fixed=True)
    assert "8080; 9000 after" in address("127.0.0.1", can_change=True, is_fixed=False, later=9000)


@pytest.mark.parametrize("text", ["", "0", "65536", "eighty", "8080.5", "-1", "²"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        setting_up.port_of({"port": text})
    assert raised.value.param == "port"
    assert setting_up.port_of({"port": "9000"}) == 9000
