"""llama.cpp's libraries where its bindings look for them, and the CPU variants where ours do."""

from pathlib import Path

from PyInstaller.utils.hooks import get_package_paths

_root, _package = (Path(path) for path in get_package_paths("llama_cpp"))

binaries = [(str(library), "llama_cpp/lib") for library in sorted((_package / "lib").glob("*.so"))]
binaries += [(str(variant), "bin") for variant in sorted((_root / "bin").glob("libggml-*.so"))]
