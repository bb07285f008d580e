"""llama.cpp's library: the only import of llama_cpp, and what is the whole process's rather than a model's.

Owns how the library is loaded, its compute backends, its log, and how a model file is handed to it. The nouns
on top are `model`, `vocabulary`, `sampler`, `batch` and `native`, which take `llama` from here.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Read by OpenMP while llama.cpp is loaded: how often its threads look again before they sleep, where they
# meet hundreds of times a token. Asleep at once they take twice as long for a token of a small model.
# Spinning for long, as is the default, they spin away the time that the one they wait for needs, where
# others use the cores too; `cores` keeps them out of that, and this bounds what it costs until it has
# noticed.
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

import llama_cpp
import llama_cpp.llama_cpp as llama
from llama_cpp._ggml import libggml

__all__ = [
    "compute_devices",
    "cpu_variant",
    "forget_log",
    "llama",
    "load_compute_backends",
    "load_model_file",
    "system_info",
    "version",
    "why",
]

RECENT_LOG_LINES = 40
_VARIANT = "libggml-cpu-"  # begins the names of the CPU backends that are each for some processors

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fdopen.argtypes, _libc.fdopen.restype = [ctypes.c_int, ctypes.c_char_p], ctypes.c_void_p
_libc.fseek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
_libc.fclose.argtypes = [ctypes.c_void_p]

_recent_log: list[str] = []


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_log(level: int, text: bytes, _: object) -> None:
    """Keeps llama.cpp's last lines: they say why a load failed, and nobody wants them otherwise."""
    _recent_log.append(text.decode(errors="replace").rstrip())
    del _recent_log[:-RECENT_LOG_LINES]


def forget_log() -> None:
    """Before a load: `why` will be about this one."""
    _recent_log.clear()


def why() -> str:
    """What llama.cpp said of its last failure."""
    telling = [line for line in _recent_log if "error" in line.lower() or "failed" in line.lower()]
    return (telling or _recent_log or ["no reason given"])[-1]


def load_compute_backends() -> None:
    """Make the compute backends known: the loadable CPU variants where this build has them."""
    llama.llama_log_set(_keep_log, None)
    directory = os.environ.get("HEARTH_GGML_DIR") or str(Path(llama.__file__).parent.parent / "bin")
    if os.path.isdir(directory):
        libggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        libggml.ggml_backend_load_all_from_path(directory.encode())
    llama.llama_backend_init()


def system_info() -> str:
    """llama.cpp's own line about the instruction sets it uses, such as `CPU : AVX2 = 1 | FMA = 1`."""
    return str(llama.llama_print_system_info().decode())


def version() -> str:
    """Of the bindings, which name the llama.cpp they were built with."""
    return f"{llama_cpp.__version__}"


def compute_devices() -> tuple[str, ...]:
    """Name and description of each compute device that ggml registered."""
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    texts = []
    for index in range(libggml.ggml_backend_dev_count()):
        device = libggml.ggml_backend_dev_get(index)
        words = []
        for part in ("name", "description"):
            read = getattr(libggml, f"ggml_backend_dev_{part}")
            read.restype, read.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
            words.append(read(device).decode(errors="replace").strip())
        texts.append(": ".join(words))
    return tuple(texts)


def cpu_variant() -> str:
    """For which generation of processors the loaded CPU backend was compiled; empty: for this one."""
    loaded = next((path for path in _mapped_files() if path.name.startswith(_VARIANT)), None)
    if loaded is None:
        return ""
    there = len(list(loaded.parent.glob(f"{_VARIANT}*.so")))
    return f"{loaded.stem.removeprefix(_VARIANT)}, of {there} that are here"


def _mapped_files() -> set[Path]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(fields[5]) for line in lines if len(fields := line.split(maxsplit=5)) == 6}


def load_model_file(path: str, offset: int, params: object) -> object:
    """The native model in the GGUF that begins at `offset` of the file, mapped in place; null when llama.cpp
    refuses it. Raises OSError when the file cannot be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    forget_log()
    stream = _libc.fdopen(descriptor, b"rb")
    _libc.fseek(stream, offset, os.SEEK_SET)
    model = llama.llama_model_load_from_file_ptr(stream, params)
    _libc.fclose(stream)
    return model
