"""From defaults, hearth.toml, the environment and flags to one frozen `Settings`.

Later layers win, setting by setting. Every value remembers where it came from, so an error names the file or
variable, the key, what was found and what would be right. Loaded once; nothing reads the environment later.
"""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.config.schema import Settings
from appliance.errors import ConfigError

PREFIX = "HEARTH_"
LONGEST_SHOWN = 300  # characters that an error shows of what somebody wrote
# Variables of ours that are not settings: where things are, and how a client reaches a server.
OTHER_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in ("HOME", "URL", "API_KEY", "CA", "BUNDLE", "PACK_DIR", "GGML_DIR", "TEST_MODELS")
)


class Setting(NamedTuple):
    """One leaf of the schema."""

    key: str  # dotted, as in hearth.toml
    kind: Any
    default: Any
    description: str

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper().replace(".", "_")


class Value(NamedTuple):
    content: Any
    source: str  # where it was written, for error messages
    is_text: bool  # from an environment variable or flag: numbers and lists come as text


def settings_list(kind: type[msgspec.Struct] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every setting of the schema, in its order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for item in msgspec.structs.fields(kind):
        hint = hints[item.encode_name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from settings_list(hint, f"{prefix}{item.encode_name}.")
        else:
            metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
            words = next((m.description for m in metas if m.description), "")
            default = item.default if item.default_factory is msgspec.NODEFAULT else item.default_factory()
            yield Setting(prefix + item.encode_name, hint, default, words)


def tables_of(setting: Setting) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """The kinds of table in a setting that is a list of tables, and in those: key and struct of each."""
    kind = _bare(setting.kind)
    item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        yield setting.key, item
        for inner in settings_list(item, f"{setting.key}."):
            yield from tables_of(inner)


def load(
    file: Path,
    environment: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    defaults: Mapping[str, str] | None = None,
    *,
    text: str | None = None,
) -> Settings:
    """The settings in force. `flags` maps dotted keys to text; None means not given.

    `text` is read in place of the file's own. `defaults` go before the schema's own: what this build was made
    for.

    Raises ConfigError naming source and key for an unknown key, a value out of range or a broken file.
    """
    known = {setting.key: setting for setting in settings_list()}
    in_file = _from_file(file, known, text)
    for key, value in in_file.items():
        _checked(known[key], value)  # what a later layer hides must be right all the same
    values = {**_of_build(defaults), **in_file, **_from_outside(environment, flags, known)}
    tree: dict[str, Any] = {}
    for key, value in values.items():
        _place(tree, key, _checked(known[key], value))
    return msgspec.convert(tree, Settings)


def fixed(environment: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The settings that no file can change, by key, and where each is written. Raises ConfigError."""
    known = {setting.key: setting for setting in settings_list()}
    return {key: value.source for key, value in _from_outside(environment, flags, known).items()}


def _of_build(defaults: Mapping[str, str] | None) -> dict[str, Value]:
    return {key: Value(text, "this build", is_text=True) for key, text in (defaults or {}).items()}


def _from_outside(
    environment: Mapping[str, str], flags: Mapping[str, str | None] | None, known: Mapping[str, Setting]
) -> dict[str, Value]:
    return {**_from_environment(environment, known), **_from_flags(flags or {}, known)}


def _from_file(file: Path, known: Mapping[str, Setting], text: str | None) -> dict[str, Value]:
    try:
        content = tomllib.loads(file.read_text("utf-8") if text is None else text)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    values: dict[str, Value] = {}
    for key, value in _flattened(content, known):
        if key not in known:
            raise ConfigError(f"{file}: there is no setting {_cut(key)!r}{_suggestion(key, known)}")
        values[key] = Value(value, str(file), is_text=False)
    return values


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, Value]:
    by_variable = {setting.variable: setting.key for setting in known.values()}
    values: dict[str, Value] = {}
    for name, text in environment.items():
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES:
            if name not in by_variable:
                raise ConfigError(
                    f"environment: there is no setting for {name}{_suggestion(name, by_variable)}"
                )
            values[by_variable[name]] = Value(text, f"environment variable {name}", is_text=True)
    return values


def _from_flags(flags: Mapping[str, str | None], known: Mapping[str, Setting]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, text in flags.items():
        if key not in known:
            raise ConfigError(f"command line: there is no setting {key!r}{_suggestion(key, known)}")
        if text is not None:
            values[key] = Value(text, "command line", is_text=True)
    return values


def _flattened(
    content: Mapping[str, Any], known: Mapping[str, Setting], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    sections = {key.rpartition(".")[0] for key in known}
    for name, value in content.items():
        key = prefix + name
        if isinstance(value, dict) and key in sections:
            yield from _flattened(value, known, key + ".")
        else:
            yield key, value


def _checked(setting: Setting, value: Value) -> Any:
    content = value.content
    is_text = value.is_text
    kind = _bare(setting.kind)
    try:
        if is_text and (typing.get_origin(kind) is dict or any(tables_of(setting))):
            content, is_text = _toml_value(content), False
        elif is_text and typing.get_origin(kind) is tuple:
            content = [word.strip() for word in content.split(",") if word.strip()]
        return msgspec.convert(content, setting.kind, strict=not is_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{value.source}: {setting.key} takes a table or tables as TOML, such as {{a = 1}}: {error}"
        ) from error
    except msgspec.ValidationError as error:
        # Tables are not repeated: a key that someone wrote there by mistake must not reach a log.
        shown = "" if any(tables_of(setting)) else _cut(f" = {value.content!r}")
        raise ConfigError(f"{value.source}: {setting.key}{shown}: {_cut(str(error))}") from error


def _toml_value(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]


def _bare(kind: Any) -> Any:
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return kind


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value


def _suggestion(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(_cut(key), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _cut(text: str) -> str:
    """As much of it as anybody wants to read."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
