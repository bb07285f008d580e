"""Single settings changed in a text: the values are those asked for, the rest stays, comments too."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.describe import described
from appliance.config.edit import edited
from appliance.config.layers import fixed, settings_list
from appliance.config.schema import Settings
from appliance.errors import ConfigError

TEXTS = (
    "",
    "# nothing but a comment\n",
    "port = 9000 # ours\n\n[generator]\ntemperature = 0.5\n",
    'routing.mode = "hybrid"\n[limits]\ndrain = 3.0\n',
    '[routing.breaker]\nfailures = 3\n\n[[routing.platforms]]\nname = "a"\n'
    '\n[[routing.platforms.models]]\nname = "b"\n',
    '[routing]\n[[routing.platforms]]\nname = "a"\n[routing.aliases]\nx = ["y"]\n',
)
SCALARS = {
    "port": st.integers(0, 65535),
    "log_level": st.sampled_from(["debug", "info"]),
    "generator.slots": st.integers(1, 128),
    "generator.temperature": st.floats(0, 2),
    "generator.pinned": st.lists(st.text("ab-", max_size=4), max_size=3),
    "limits.drain": st.floats(1, 9),
    "routing.mode": st.sampled_from(["offline", "hybrid"]),
    "routing.breaker.failures": st.integers(1, 9),
}
changes = st.fixed_dictionaries({}, optional={key: st.none() | of for key, of in SCALARS.items()})


def with_values(tree: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return tree


def without_empty(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    inner = {key: without_empty(value) for key, value in tree.items()}
    return {key: value for key, value in inner.items() if value != {}}


@given(st.sampled_from(TEXTS), changes)
def test_the_values_are_those_asked_for_and_all_else_stays(text: str, values: dict[str, Any]) -> None:
    try:
        after = tomllib.loads(edited(text, values))
    except ConfigError:  # told, and nothing is written: tomlkit cannot put tables behind dotted keys
        assert text.startswith("routing.mode")
        return
    assert without_empty(after) == without_empty(with_values(tomllib.loads(text), values))


def test_comments_stay() -> None:
    text = "# the box in the cellar\nport = 9000 # ours\n"
    assert edited(text, {"port": 9001, "generator.slots": 2}) == (
        "# the box in the cellar\nport = 9001 # ours\n\n[generator]\nslots = 2\n"
    )


@pytest.mark.parametrize(
    ("text", "values"), [("port = ", {"port": 1}), ("generator = 3\n", {"generator.slots": 1})]
)
def test_what_cannot_be_edited_is_told(text: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        edited(text, values)


def test_every_setting_is_described_with_what_may_be_written() -> None:
    told = {
        each.key: each for each in described(Settings(), {"port": "command line"}, {"limits": {"drain": 30}})
    }
    assert list(told) == [setting.key for setting in settings_list()]
    assert (told["port"].kind, told["port"].least, told["port"].most) == ("integer", 0, 65535)
    assert (told["port"].is_fixed, told["port"].source) == (True, "command line")
    assert (told["limits.drain"].source, told["limits.drain"].needs_restart) == ("file", False)
    assert told["log_level"].choices == ("debug", "info", "warning", "error")
    assert told["routing.platforms"].kind == "table"
    assert all(each.description for each in told.values())


def test_what_the_file_cannot_change_is_named() -> None:
    assert fixed({"HEARTH_PORT": "1"}, {"generator.slots": "2", "host": None}) == {
        "port": "environment variable HEARTH_PORT",
        "generator.slots": "command line",
    }
