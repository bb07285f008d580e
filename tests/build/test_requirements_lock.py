"""The lock's format, and the locks we ship against pyproject and our own promises."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from requirements_lock import LockError, Pin, normalise, read_lock, render
from setup_needs import SOURCE_ONLY

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-dev.lock"]
PYPROJECT = ROOT / "pyproject.toml"
A, B = "a" * 64, "b" * 64


def test_reads_names_versions_and_hashes_in_order() -> None:
    text = f"""# made so
Uv_Loop==1.0 \\
    --hash=sha256:{B} \\
    --hash=sha256:{A}
    # via x
z==2  --hash=sha256:{A}
"""
    assert read_lock(text) == (Pin("uv-loop", "1.0", (A, B)), Pin("z", "2", (A,)))


def test_what_is_rendered_reads_back() -> None:
    pins = (Pin("a", "1.2+cpu", (A, B)), Pin("b", "3", (B,)))
    assert read_lock(render(pins)) == pins


@pytest.mark.parametrize(
    "line",
    [
        f"--index-url somewhere --hash=sha256:{A}",
        f"name>=1 --hash=sha256:{A}",
        f"name @ file:///wheel --hash=sha256:{A}",
        "name==1",
        "name==1 --hash=sha256:short",
        f"name==1 --hash=md5:{A}",
        f"name==1 ; python_version=='3.11' --hash=sha256:{A}",
    ],
)
def test_refuses_what_a_lock_may_not_say(line: str) -> None:
    with pytest.raises(LockError):
        read_lock(line)


def test_refuses_a_package_locked_twice() -> None:
    with pytest.raises(LockError, match="twice"):
        read_lock(f"a.b==1 --hash=sha256:{A}\nA-B==2 --hash=sha256:{A}\n")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_name_no_source_of_packages(lock: Path) -> None:
    text = lock.read_text()
    assert read_lock(text)
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("\\\n", " "), re.MULTILINE), "an option line"
    assert not re.search(r"\b[a-z0-9-]+\.(org|com|io|net|dev)\b", text), "a host name"


def _required(entries: list[str]) -> list[Requirement]:
    return [Requirement(entry) for entry in entries]


def test_locks_satisfy_pyproject() -> None:
    project = tomllib.loads(PYPROJECT.read_text())
    groups = project["dependency-groups"]
    run, dev = ({pin.name: pin for pin in read_lock(lock.read_text())} for lock in LOCKS)
    for locked, entries in (
        (run, project["project"]["dependencies"] + groups["native"]),
        (dev, groups["dev"]),
    ):
        for requirement in _required(entries):
            pin = locked[normalise(requirement.name)]
            assert requirement.specifier.contains(pin.version), f"{requirement} is locked at {pin.version}"


def test_the_two_locks_agree() -> None:
    run, dev = ({pin.name: pin for pin in read_lock(lock.read_text())} for lock in LOCKS)
    assert {name: dev[name].version for name in run.keys() & dev.keys()} == {
        name: run[name].version for name in run.keys() & dev.keys()
    }


def test_what_is_compiled_is_locked_for_serving() -> None:
    run, dev = ({pin.name for pin in read_lock(lock.read_text())} for lock in LOCKS)
    assert set(SOURCE_ONLY) <= run
    assert not set(SOURCE_ONLY) & dev, "the development tools are installed as wheels only"


def test_every_dependency_says_why_it_is_there() -> None:
    project = tomllib.loads(PYPROJECT.read_text())
    entries = [*project["project"]["dependencies"], *chain(*project["dependency-groups"].values())]
    lines = PYPROJECT.read_text().splitlines()
    for entry in entries:
        found = [line for line in lines if line.strip().startswith(f'"{entry}"')]
        assert found
        for line in found:
            assert len(line.partition("#")[2].split()) >= 2, f"{entry} has no reason in its comment"
