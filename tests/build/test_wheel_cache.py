"""A compiled wheel is used again only where it can run, and only if it is whole."""

import os
from pathlib import Path

import pytest
from requirements_lock import Pin
from setup_needs import build_settings
from wheel_cache import KEPT_WHEELS, WheelCache, cpu_fingerprint, wheel_key

PIN = Pin("engine", "1.0", ("a" * 64,))
CPU = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu MHz\t\t: 2500.1
flags\t\t: fpu sse2 avx2
"""


def make_wheel(folder: Path, name: str = "engine-1.0-py3-none-any.whl", content: bytes = b"wheel") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_cpu_fingerprint_is_of_the_instructions_not_of_the_moment() -> None:
    mark = cpu_fingerprint(CPU, "x86_64")
    second_core = CPU.replace("processor\t: 0", "processor\t: 1").replace("2500.1", "1800.7")
    assert cpu_fingerprint(CPU + "\n" + second_core, "x86_64") == mark
    assert cpu_fingerprint(CPU.replace("fpu sse2 avx2", "avx2 fpu sse2"), "x86_64") == mark
    assert cpu_fingerprint(CPU.replace("avx2", "avx2 avx512f"), "x86_64") != mark
    assert cpu_fingerprint(CPU, "aarch64") != mark


def test_arm_cores_differ_by_part_and_features() -> None:
    core = "CPU implementer : 0x41\nCPU part : 0xd0c\nFeatures : fp asimd\n"
    mark = cpu_fingerprint(core, "aarch64")
    assert cpu_fingerprint(core.replace("0xd0c", "0xd40"), "aarch64") != mark
    assert cpu_fingerprint(core.replace("asimd", "asimd sve"), "aarch64") != mark


@pytest.mark.parametrize("name", ["cpu", "libc", "python", "cmake", "lean", "CMAKE_ARGS", "CXXFLAGS", "CC"])
def test_every_build_setting_makes_another_key(name: str) -> None:
    settings = build_settings({})
    changed = settings | {name: settings[name] + "x"}
    assert wheel_key(PIN, changed) != wheel_key(PIN, settings)


def test_build_settings_follow_the_environment() -> None:
    assert build_settings({"CMAKE_ARGS": "-DGGML_VULKAN=ON"}) != build_settings({})
    assert build_settings({"HOME": "/elsewhere"}) == build_settings({})


def test_another_version_or_source_makes_another_key() -> None:
    settings = {"cpu": "x"}
    keys = {
        wheel_key(PIN, settings),
        wheel_key(Pin("engine", "1.1", PIN.hashes), settings),
        wheel_key(Pin("engine", "1.0", ("b" * 64,)), settings),
    }
    assert len(keys) == 3


def test_keeps_and_finds_a_wheel(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    assert cache.find("key") is None
    kept = cache.keep("key", make_wheel(tmp_path / "built"))
    assert cache.find("key") == kept
    assert kept.read_bytes() == b"wheel"
    assert cache.find("other") is None


def test_a_newer_wheel_replaces_the_older(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    cache.keep("key", make_wheel(tmp_path / "built"))
    cache.keep("key", make_wheel(tmp_path / "built", "engine-1.0-py3-none-linux.whl", b"newer"))
    found = cache.find("key")
    assert found is not None
    assert found.read_bytes() == b"newer"


def test_a_damaged_wheel_is_not_found(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    cache.keep("key", make_wheel(tmp_path / "built")).write_bytes(b"wheeL")
    assert cache.find("key") is None


def test_a_wheel_without_its_hash_is_not_found(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    (cache.keep("key", make_wheel(tmp_path / "built")).parent / "sha256").unlink()
    assert cache.find("key") is None


def test_the_cache_is_bounded_and_forgets_the_least_recently_used(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    for number in range(KEPT_WHEELS):
        folder = cache.keep(f"key{number}", make_wheel(tmp_path / "built")).parent
        os.utime(folder, (number, number))
    assert cache.find("key0") is not None, "the use of key0 makes it the newest"
    cache.keep("one more", make_wheel(tmp_path / "built"))
    assert cache.find("key0") is not None
    assert cache.find("key1") is None
    assert len(list(cache.root.iterdir())) == KEPT_WHEELS
