"""A new configuration under a running server: taken whole or not at all, and every version kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.config.diff import LIVE, differences, in_force, is_live
from appliance.config.history import History
from appliance.config.layers import load, settings_list
from appliance.config.reload import Configuration
from appliance.config.schema import Settings
from appliance.errors import ConfigError, NotFound

CLOUD = """
[[routing.platforms]]
name = "cloud"
api_base_url = "https://example.org/v1"
models = [{name = "big"}]
"""


def settings(text: str) -> Settings:
    return load(Path("/nowhere/hearth.toml"), {}, text=text)


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    file = tmp_path / "hearth.toml"
    file.write_text("port = 1001\n")
    found = Configuration(file, settings, settings(file.read_text()), History(tmp_path / "history"))
    found.begin()
    return found


def test_differences_go_into_tables_by_their_names() -> None:
    before = settings(CLOUD)
    after = settings(CLOUD.replace('"big"', '"big", price_in = 2.5') + "[generator]\ntop_k = 3\nslots = 4\n")
    assert [(c.key, c.before, c.after, c.needs_restart) for c in differences(before, after)] == [
        ("generator.slots", 16, 4, True),
        ("generator.top_k", 40, 3, False),
        ("routing.platforms.cloud.models.big.price_in", None, 2.5, False),
    ]
    assert differences(after, after) == ()


def test_every_live_pattern_names_a_setting_and_the_mode_is_not_live() -> None:
    keys = [setting.key for setting in settings_list()]
    assert all(any(is_live(key) for key in keys if key.startswith(p.rstrip("*"))) for p in LIVE)
    assert not is_live("routing.mode")


def test_in_force_takes_what_is_live_only() -> None:
    wanted = settings("port = 9\n[generator]\ntop_k = 3\n[routing]\nmode = 'hybrid'\ncalls = 2\n")
    found = in_force(Settings(), wanted)
    assert (found.port, found.routing.mode) == (8080, "offline")
    assert (found.generator.top_k, found.routing.calls) == (3, 2)


def test_a_server_may_become_offline_at_once() -> None:
    running, wanted = settings("[routing]\nmode = 'hybrid'\n"), Settings()
    assert in_force(running, wanted).routing.mode == "offline"
    assert [c.needs_restart for c in differences(running, wanted)] == [False]
    assert [c.needs_restart for c in differences(wanted, running)] == [True]


def test_a_good_file_is_taken_and_what_needs_a_restart_is_named(configuration: Configuration) -> None:
    configuration.file.write_text("port = 1002\n[generator]\ntop_k = 3\n")
    taken = configuration.reload()
    assert [c.key for c in taken.changes] == ["port", "generator.top_k"]
    assert [c.key for c in taken.pending] == ["port"]
    assert (configuration.settings.port, configuration.settings.generator.top_k) == (1001, 3)
    assert taken.version == 2


@pytest.mark.parametrize("text", ["port = 'x'", "prot = 1", "port = ", "[routing]\npolicy = 'worst'"])
def test_a_bad_file_changes_nothing_and_says_why(configuration: Configuration, text: str) -> None:
    before = configuration.settings
    configuration.file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configuration.reload()
    assert configuration.error == caught.value.message
    assert configuration.settings is before
    assert len(configuration.history.versions()) == 1


def test_an_empty_file_is_half_written_and_a_missing_one_means_the_defaults(
    configuration: Configuration,
) -> None:
    configuration.file.write_text("")
    with pytest.raises(ConfigError, match="remove it to go back"):
        configuration.reload()
    configuration.file.unlink()
    assert [(change.key, change.after) for change in configuration.reload().changes] == [("port", 8080)]


def test_settings_that_the_server_refuses_change_nothing(configuration: Configuration) -> None:
    def refuse(_: Settings) -> None:
        raise ConfigError("not these")

    configuration.taker = refuse
    with pytest.raises(ConfigError, match="not these"):
        configuration.replace("[generator]\ntop_k = 3\n", "me")
    assert configuration.settings.generator.top_k == 40
    assert configuration.file.read_text() == "port = 1001\n"
    assert len(configuration.history.versions()) == 1


def test_a_new_text_becomes_the_file_and_the_way_back_is_kept(configuration: Configuration) -> None:
    configuration.replace("[generator]\ntop_k = 3\n", "ann (api)")
    assert configuration.file.read_text() == "[generator]\ntop_k = 3\n"
    taken = configuration.rollback(1, "bob")
    assert configuration.settings.generator.top_k == 40
    assert configuration.file.read_text() == "port = 1001\n"
    newest, middle, oldest = configuration.history.versions()
    assert (newest.number, newest.author, newest.text) == (taken.version, "bob (rollback to 1)", oldest.text)
    assert (middle.author, [c.key for c in middle.changes]) == ("ann (api)", ["port", "generator.top_k"])
    assert newest.time >= middle.time >= oldest.time
    with pytest.raises(NotFound, match="1 to 3"):
        configuration.rollback(9, "bob")


def test_a_damaged_version_is_left_out_and_its_number_not_taken_again(configuration: Configuration) -> None:
    directory = configuration.file.parent / "history"
    (directory / "00000002.json").write_bytes(b"{")
    configuration.replace("[generator]\ntop_k = 3\n", "ann")
    assert [version.number for version in configuration.history.versions()] == [3, 1]


def test_the_file_is_watched(configuration: Configuration) -> None:
    async def edited() -> None:
        watching = asyncio.ensure_future(configuration.watch())
        try:
            async with asyncio.timeout(20):
                while configuration.settings.generator.top_k != 5:
                    configuration.file.write_text("[generator]\ntop_k = 5\n")
                    await asyncio.sleep(0.3)
                while not configuration.error:
                    configuration.file.write_text("[generator]\ntop_k = -5\n")
                    await asyncio.sleep(0.3)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(edited())
    assert configuration.settings.generator.top_k == 5
    assert "top_k = -5" in configuration.error
