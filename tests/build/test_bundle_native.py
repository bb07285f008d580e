"""A portable wheel is any processor's; .venv's wheels are this one's. The cache must never mix them up."""

from pathlib import Path

import freeze
import native
import pytest
from requirements_lock import Pin
from setup_needs import SOURCE_ONLY, build_settings
from wheel_cache import wheel_key

PINS = {name: Pin(name, "1.0", ("a" * 64,)) for name in SOURCE_ONLY}


def test_the_portable_wheel_has_a_key_of_its_own() -> None:
    keys = native.native_keys(PINS, {})
    assert all(keys[name] != wheel_key(pin, build_settings({})) for name, pin in PINS.items())


def test_the_compiler_counts_and_options_that_are_not_passed_on_do_not() -> None:
    keys = native.native_keys(PINS, {})
    assert native.native_keys(PINS, {"CC": "clang"}) != keys
    assert native.native_keys(PINS, {"CFLAGS": "-march=native"}) == keys


def test_of_the_bindings_only_the_declarations_stay(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "server").mkdir()
    for name in ("__init__.py", "llama_cpp.py", "llama.py", "_ggml.py", "lib/libllama.so", "server/app.py"):
        (tmp_path / name).write_text("import everything")
    native._drop_engine(tmp_path, "1.0")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["__init__.py", "_ggml.py", "lib/libllama.so", "llama_cpp.py"]
    assert (tmp_path / "__init__.py").read_text() == '__version__ = "1.0"\n'


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("/p/_internal/numpy.libs/libscipy_openblas64_.so", True),
        ("/p/_internal/pillow.libs/libtiff.so.6", True),
        ("/p/_internal/numpy/_core/_multiarray_umath.so", False),
        ("/p/_internal/libpython3.11.so.1.0", False),
    ],
)
def test_libraries_that_strip_would_corrupt_are_known(path: str, moved: bool) -> None:
    assert bool(freeze.MOVED_LIBRARIES.search(path)) is moved


def test_a_library_states_the_glibc_it_needs(tmp_path: Path) -> None:
    (tmp_path / "libc.so.6").write_bytes(Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes())
    (tmp_path / "notes.txt").write_text("GLIBC_2.99")
    assert 30 < freeze.needed_glibc(tmp_path) < 99


def test_code_that_runs_at_every_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "surprise.pth").write_text("import os")
    with pytest.raises(freeze.SetupError, match=r"surprise\.pth"):
        freeze._refuse_startup_code(tmp_path)
