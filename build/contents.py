"""Owns the question what the frozen program is made of: every package with its version and its licence.

Reads PyInstaller's lists of what it took and from where, and asks whoever owns those files: the metadata of
Python's packages, or Debian's package manager. A file that nobody owns is an error: its licence is unknown.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path

from setup_failure import Failure, SetupError
from setup_layout import ROOT

_LICENCE_NAMES = ("licen", "copying", "notice", "copyright")


@dataclass(frozen=True, order=True)
class Component:
    """A package in the program. `purl` is its package URL, `licence` its own words or an SPDX expression."""

    name: str
    version: str
    purl: str
    licence: str
    texts: tuple[Path, ...] = ()


def components(analysis: Path, native: Path) -> list[Component]:
    """What the program holds, from PyInstaller's work folder `analysis`. Raises SetupError."""
    taken = set(_taken_files(analysis))
    ours = {path for path in taken if path.is_relative_to(ROOT) and not _is_foreign(path)}
    found: set[Component] = {_python(), _bootloader()}
    rest = {path for path in taken - ours if not _is_pythons(path)}
    for distribution in _distributions(native):
        owned = {Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or ()}
        if owned & rest:
            if distribution.name != "pyinstaller":  # what it adds of its own counts as the bootloader
                found.add(_component(distribution))
            rest -= owned
    system = {path for path in rest if not path.is_relative_to(ROOT)}
    found.update(_debian(path) for path in sorted(system | {_static_libc()}))
    if unknown := sorted(rest - system):
        cause = f"Nobody owns {unknown[0]}, which the program would carry."
        raise SetupError(Failure(cause, "Leave it out in build/appliance.spec, or name its owner here."))
    return sorted(found)


def _taken_files(analysis: Path) -> Iterable[Path]:
    for name, position in (("COLLECT-00.toc", 0), ("PYZ-00.toc", 1), ("PKG-00.toc", 2)):
        items = ast.literal_eval((analysis / name).read_text())[position]
        for _, source, kind in items:
            path = Path(source)
            if kind not in ("SYMLINK", "OPTION") and path.is_absolute() and not path.is_relative_to(analysis):
                yield path.resolve()


def _is_foreign(path: Path) -> bool:
    return "site-packages" in path.parts or path.is_relative_to(ROOT / ".work")


def _is_pythons(path: Path) -> bool:
    base = Path(sys.base_prefix).resolve()
    return path.is_relative_to(base) or path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


def _distributions(native: Path) -> list[Distribution]:
    site = sysconfig.get_path("purelib")
    return [*distributions(path=[str(native)]), *distributions(path=[site])]


def _component(distribution: Distribution) -> Component:
    metadata = distribution.metadata
    name, version = metadata["Name"], distribution.version
    texts = tuple(
        path
        for file in distribution.files or ()
        if any(word in file.name.lower() for word in _LICENCE_NAMES) and file.suffix not in (".py", ".pyc")
        if (path := Path(str(distribution.locate_file(file)))).is_file()
    )
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if "License" in c]
    stated = _field(metadata, "License-Expression") or " AND ".join(classifiers)
    licence = stated or (_field(metadata, "License") or "see its licence text").splitlines()[0]
    return Component(name, version, f"pkg:pypi/{name.lower()}@{version}", licence, texts)


def _field(metadata: PackageMetadata, name: str) -> str:
    return metadata[name] if name in metadata else ""  # noqa: SIM401 - it has no `get` for the type checker


def _python() -> Component:
    version = sys.version.split()[0]
    texts = (Path(sysconfig.get_path("stdlib")) / "LICENSE.txt",)
    return Component("CPython", version, f"pkg:generic/python@{version}", "PSF-2.0", texts)


def _bootloader() -> Component:
    (package,) = distributions(name="pyinstaller", path=[sysconfig.get_path("purelib")])
    made = _component(package)
    licence = "GPL-2.0-or-later WITH Bootloader-exception"
    return Component("PyInstaller bootloader", made.version, made.purl, licence, made.texts)


def _static_libc() -> Path:
    answer = subprocess.run(["cc", "-print-file-name=libc.a"], capture_output=True, text=True).stdout
    return Path(answer.strip()).resolve()


def _debian(path: Path) -> Component:
    # A merged /usr knows each library under two paths, and dpkg only under the older one.
    for known in (path, Path("/", *path.parts[2:])):
        answer = subprocess.run(["dpkg-query", "-S", known], capture_output=True, text=True)
        if not answer.returncode:
            break
    else:
        raise SetupError(Failure(f"No Debian package owns {path}.", "Use the distribution's own libraries."))
    package = answer.stdout.split(":")[0]
    query = ["dpkg-query", "-W", "-f", "${Version} ${source:Package}", package]
    version, source = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[:2]
    text = Path("/usr/share/doc", package, "copyright")
    purl = f"pkg:deb/debian/{package}@{version}?arch=amd64&upstream={source}"
    texts = (text,) if text.is_file() else ()
    return Component(package, version, purl, "see its licence text", texts)
