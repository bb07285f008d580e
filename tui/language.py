"""Every sentence of the UI in the language in use. One catalogue a language; a test holds their keys equal.

    say("frame.quit")      # "Quit"

`use` switches; screens are composed anew by whoever switches. Numbers have no forms of their own here: texts
are written so that they fit one and many.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
DIRECTORY = Path(__file__).parent / "texts"


class _Catalogue:
    def __init__(self) -> None:
        self.language = "en"
        self.texts: dict[str, str] = {}


_catalogue = _Catalogue()


def read(language: str) -> dict[str, str]:
    """The catalogue of a language, by dotted key: the frame's file, and those of screens beside it."""
    found: dict[str, str] = {}
    for path in (DIRECTORY / f"{language}.toml", *sorted((DIRECTORY / language).glob("*.toml"))):
        with path.open("rb") as file:
            found |= _flat(tomllib.load(file), "")
    return found


def use(language: str) -> None:
    """Say everything in `language` from now on. Raises KeyError for one that there is not."""
    LANGUAGES[language]
    _catalogue.language, _catalogue.texts = language, read(language)


def current() -> str:
    return _catalogue.language


def say(key: str, /, **values: Any) -> str:
    """The sentence of that key. Raises KeyError: a test looks for keys that no catalogue has."""
    if not _catalogue.texts:
        use(_catalogue.language)
    text = _catalogue.texts[key]
    return text.format(**values) if values else text


def has(key: str) -> bool:
    if not _catalogue.texts:
        use(_catalogue.language)
    return key in _catalogue.texts


def chosen(environment: Mapping[str, str]) -> str:
    """The language that the environment asks for, as POSIX orders its variables."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return value[:2] if value[:2] in LANGUAGES else "en"
    return "en"


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, str):
            yield prefix + name, value
        else:
            yield from _flat(value, f"{prefix}{name}.")
