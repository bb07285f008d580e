"""Every sentence exists in every language, takes the same values, and is said by somebody."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from tui import language
from tui.app import PLACES
from tui.language import LANGUAGES, read

SOURCES = Path(language.__file__).parent
SAID = re.compile(r'say\(\s*f?"([a-z_0-9.{}]+)"')
BOUND = re.compile(r'Binding\(\s*f?"[^"]*",\s*f?"[^"]*",\s*"([a-z_0-9]+\.[a-z_0-9]+)"')


def without_docstrings(source: str) -> str:
    return re.sub(r'""".*?"""', "", source, flags=re.DOTALL)


def values(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_sentences() -> None:
    english = set(read("en"))
    assert {name: set(read(name)) ^ english for name in LANGUAGES} == {name: set() for name in LANGUAGES}


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_sentence_takes_the_same_values_in_each(name: str) -> None:
    english, other = read("en"), read(name)
    assert [key for key in english if values(english[key]) != values(other[key])] == []


def test_no_sentence_is_empty_or_left_in_english() -> None:
    english, chinese = read("en"), read("zh")
    assert not [key for key, text in chinese.items() if not text.strip()]
    same = {key for key, text in chinese.items() if text == english[key]}
    assert all(not re.search(r"[a-z]{4}", re.sub(r"\{.*?\}", "", chinese[key])) for key in same), same


def test_what_is_said_exists() -> None:
    known = read("en")
    for path in SOURCES.rglob("*.py"):
        source = without_docstrings(path.read_text("utf-8"))
        for key in (*SAID.findall(source), *BOUND.findall(source)):
            if "{" in key:
                pattern = re.compile(re.sub(r"\{[^}]*\}", r"[a-z_0-9.-]+", key) + r"\Z")
                assert any(pattern.match(each) for each in known), f"{path.name} says {key}"
            else:
                assert key in known, f"{path.name} says {key}"


@pytest.mark.parametrize("place", PLACES)
def test_every_place_has_a_name_and_a_purpose(place: str) -> None:
    assert f"places.{place}" in read("en")
    assert f"places_help.{place}" in read("en")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({}, "en"),
    ],
)
def test_the_environment_chooses(environment: dict[str, str], expected: str) -> None:
    assert language.chosen(environment) == expected
