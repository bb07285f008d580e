"""Settings: their layers, their bounds, and errors that say where a wrong one was written."""

from __future__ import annotations

import math
import typing
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from appliance.config.access import Certificate, Issuer
from appliance.config.layers import OTHER_VARIABLES, Setting, load, settings_list, tables_of
from appliance.config.routing import Budget, Model, Platform, Rule
from appliance.config.schema import Settings
from appliance.config.tools import HttpAddress, McpServer
from appliance.errors import ConfigError

SETTINGS = list(settings_list())
NUMBERS = [
    setting
    for setting in SETTINGS
    if isinstance(setting.default, (int, float)) and not isinstance(setting.default, bool)
]


TABLES: dict[str, tuple[Any, str]] = {  # a value of each list of tables, and how it is written as text
    "routing.platforms": (
        (Platform(name="cloud", api_base_url="https://example.org/v1", models=(Model(name="big"),)),),
        '[{name = "cloud", api_base_url = "https://example.org/v1", models = [{name = "big"}]}]',
    ),
    "routing.rules": ((Rule(policy="best", task="code"),), '[{policy = "best", task = "code"}]'),
    "access.issuers": (
        (Issuer(issuer="i", audience="a", algorithm="EdDSA", key_file="k.pem", roles={"staff": "user"}),),
        '[{issuer = "i", audience = "a", algorithm = "EdDSA", key_file = "k.pem", roles = {staff = "user"}}]',
    ),
    "access.certificates": (
        (Certificate(name="scraper", fingerprint="ab" * 32, role="operator"),),
        f'[{{name = "scraper", fingerprint = "{"ab" * 32}", role = "operator"}}]',
    ),
    "tools.http": ((HttpAddress(url="http://127.0.0.1:9"),), '[{url = "http://127.0.0.1:9"}]'),
    "tools.servers": (
        (McpServer(name="notes", command=("notes",)),),
        '[{name = "notes", command = ["notes"]}]',
    ),
    "routing.budgets": ((Budget(scope="all", tokens=5),), '[{scope = "all", tokens = 5}]'),
}


def value_of(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def limits(setting: Setting) -> msgspec.Meta:
    """The bounds of a numeric setting, from all its annotations."""
    found = [meta for meta in setting.kind.__metadata__ if isinstance(meta, msgspec.Meta)]
    merged = {name: getattr(meta, name) for meta in found for name in ("ge", "gt", "le", "lt")}
    for meta in found:
        merged |= {name: v for name in merged if (v := getattr(meta, name)) is not None}
    return msgspec.Meta(**merged)


def another(setting: Setting) -> tuple[Any, str]:
    """A value that the setting may have and has not by default, and how it is written as text."""
    default = setting.default
    if isinstance(default, bool):
        return not default, str(not default).lower()
    if tables := list(tables_of(setting)):
        return TABLES[tables[0][0]]
    if isinstance(default, dict):
        if setting.key == "routing.aliases":
            return {"fast": ("a", "b")}, '{fast = ["a", "b"]}'
        if setting.key == "generator.draft_models":
            return {"large": "small"}, '{large = "small"}'
        return {"a": 2.0}, "{a = 2}"
    if setting.key == "access.origins":
        return ("https://one", "http://two:8"), " https://one, http://two:8 ,"
    if setting.key == "privacy.kinds":
        return ("email", "card"), "email,card"
    if isinstance(default, tuple):
        return ("one", "two"), " one, two ,"
    if isinstance(default, str):
        choices = setting.kind.__origin__
        values = typing.get_args(choices) if typing.get_origin(choices) is Literal else ("127.0.0.9", "other")
        value = next(value for value in values if value != default)
        return value, value
    bounds = limits(setting)
    lowest = bounds.ge if bounds.ge is not None else bounds.le
    value = type(default)(lowest if lowest != default else bounds.le)
    return value, str(value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hearth.toml"


def test_without_anything_the_defaults_hold(file: Path) -> None:
    assert load(file, {}) == Settings()


def test_each_layer_wins_over_the_one_below(file: Path) -> None:
    file.write_text("port = 1001\npack = 'tiny'\n[generator]\nslots = 3\n[limits]\ndrain = 9\n")
    environment = {"HEARTH_PORT": "1002", "HEARTH_GENERATOR_SLOTS": "4"}
    settings = load(file, environment, {"port": "1003", "pack": None})
    assert settings.port == 1003, "the flag"
    assert settings.generator.slots == 4, "the variable"
    assert (settings.pack, settings.limits.drain) == ("tiny", 9), "the file"
    assert settings.generator.threads == 0, "the default"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_has_a_description_and_a_variable_that_sets_it(setting: Setting, file: Path) -> None:
    assert setting.description
    assert setting.variable == "HEARTH_" + setting.key.upper().replace(".", "_")
    given, text = another(setting)
    assert given != setting.default
    assert value_of(load(file, {setting.variable: text}), setting.key) == given
    assert value_of(load(file, {}, {setting.key: text}), setting.key) == given


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.key)
def test_every_number_is_bounded_on_both_sides(setting: Setting, file: Path) -> None:
    bounds = limits(setting)
    low = bounds.gt if bounds.gt is not None else bounds.ge
    high = bounds.le if bounds.le is not None else bounds.lt
    assert low is not None
    assert high is not None
    for outside in (low if bounds.gt is not None else low - 1, high + 1):
        with pytest.raises(ConfigError) as caught:
            load(file, {setting.variable: str(outside)})
        assert setting.variable in caught.value.message
        assert setting.key in caught.value.message
    for wrong in ("nan", "inf", "many", ""):
        with pytest.raises(ConfigError):
            load(file, {setting.variable: wrong})
    assert math.isfinite(setting.default)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["prot", "did you mean 'port'"]),
        ("[generator]\nslot = 1", ["generator.slot", "did you mean 'generator.slots'"]),
        ("[limts]\ndrain = 1", ["limts"]),
        ("generator = 3", ["generator"]),
        ("port = 70000", ["port = 70000", "<= 65535"]),
        ("port = 'many'", ["port = 'many'", "int"]),
        ("port = true", ["port = True", "int"]),
        ("pack = '../x'", ["pack = '../x'"]),
        ("models = 'one'", ["models = 'one'"]),
        ("models = [1]", ["models = [1]"]),
        ("pull = 'sometimes'", ["pull = 'sometimes'"]),
        ("[routing]\nmode = 'online'", ["routing.mode = 'online'"]),
        ("[[routing.platforms]]\nname = 'a'", ["routing.platforms", "api_base_url"]),
        (
            "[[routing.platforms]]\nname = 'a'\napi_base_url = 'ftp://x'",
            ["routing.platforms", "api_base_url"],
        ),
        ("[[routing.platforms]]\nname = 'a'\nkey = 'secret'", ["routing.platforms", "key"]),
        ("port = ", ["not valid TOML"]),
        ("port = 1\nport = 2", ["not valid TOML"]),
    ],
)
def test_a_wrong_file_is_refused_naming_file_key_and_fault(file: Path, text: str, words: list[str]) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    for word in (str(file), *words):
        assert word in caught.value.message


def test_a_wrong_value_in_the_file_is_refused_though_a_flag_hides_it(file: Path) -> None:
    file.write_text("port = 'x'")
    with pytest.raises(ConfigError, match="port = 'x'"):
        load(file, {}, {"port": "1"})


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"port = '\xff\xfe'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file, {})


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file, {})


def test_an_unknown_variable_is_refused_with_the_nearest(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"HEARTH_PROT.*did you mean 'HEARTH_PORT'"):
        load(file, {"HEARTH_PROT": "1"})


def test_variables_of_ours_that_are_no_settings_pass(file: Path) -> None:
    assert load(file, dict.fromkeys(OTHER_VARIABLES, "x") | {"HOME": "x", "PORT": "1"}) == Settings()


def test_an_unknown_flag_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"command line.*'generator.slot'.*did you mean 'generator.slots'"):
        load(file, {}, {"generator.slot": "1"})


def test_variables_of_two_settings_never_collide() -> None:
    variables = [setting.variable for setting in SETTINGS]
    assert len(set(variables)) == len(variables)
    assert not set(variables) & OTHER_VARIABLES


def test_a_file_that_nests_without_end_is_told(tmp_path: Path) -> None:
    file = tmp_path / "hearth.toml"
    file.write_text("models = " + "[" * 5000)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file, {})
