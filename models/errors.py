"""The room's error tree.

ModelError
├─ ManifestError        a manifest or pack file is not what it should be; names file and key
├─ UnknownModel         no such model in the catalogue or the store
├─ MalformedModel       a model file failed preflight
├─ MalformedBundle      an executable's table of models is missing, damaged or inconsistent
├─ UnsupportedModel     a sound model file that Hearth does not serve
├─ HashMismatch         bytes arrived, but not the pinned ones
├─ SourceUnavailable    no source could deliver a file
├─ MalformedPack        a pack of the stick is not what its table says, or holds what no pack may
├─ SigningKeyError      a signing key is missing, taken or no key
├─ UntrustedSignature   a signature is missing, does not fit, or is of a key that is not accepted
├─ VersionTooLow        older than what is installed
└─ StoreError           the store on disk
   ├─ StoreFull         not enough space, with the numbers
   ├─ StoreBusy         another process is changing the store
   └─ NameTaken         the name belongs to other content

Whoever shows these to a client maps them; this module knows no status codes.
"""

from __future__ import annotations

from pathlib import Path


class ModelError(Exception):
    """Base of every error this room raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ManifestError(ModelError):
    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file


class UnknownModel(ModelError):
    def __init__(self, name: str, known: tuple[str, ...], where: str) -> None:
        listing = ", ".join(known) if known else "none"
        super().__init__(f"no model {name!r} in the {where}; known there: {listing}")
        self.name = name
        self.known = known


class MalformedModel(ModelError):
    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class MalformedBundle(ModelError):
    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class UnsupportedModel(ModelError):
    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file


class HashMismatch(ModelError):
    def __init__(self, file: str, expected: str, actual: str, source: str) -> None:
        super().__init__(f"{file} from {source}: expected sha256 {expected}, got {actual}")
        self.file = file
        self.expected = expected
        self.actual = actual


class SourceUnavailable(ModelError):
    """`reasons` holds one plain sentence per source that was tried."""

    def __init__(self, file: str, reasons: tuple[str, ...]) -> None:
        super().__init__(
            f"no source delivered {file}: " + ("; ".join(reasons) if reasons else "none is listed")
        )
        self.file = file
        self.reasons = reasons


class MalformedPack(ModelError):
    def __init__(self, pack: str, problem: str) -> None:
        super().__init__(f"{pack}: {problem}")
        self.problem = problem


class SigningKeyError(ModelError):
    pass


class UntrustedSignature(ModelError):
    pass


class VersionTooLow(ModelError):
    def __init__(self, name: str, version: str, installed: str) -> None:
        super().__init__(
            f"{name} {version} is older than {installed}, which was installed here; it is refused"
        )
        self.version = version
        self.installed = installed


class StoreError(ModelError):
    pass


class StoreFull(StoreError):
    """`needed` and `free` are bytes."""

    def __init__(self, root: Path, needed: int, free: int) -> None:
        super().__init__(
            f"{root} needs {needed:,} bytes free, has {free:,}; make room or choose another HEARTH_HOME"
        )
        self.needed = needed
        self.free = free


class StoreBusy(StoreError):
    def __init__(self, root: Path, holder: str) -> None:
        super().__init__(f"{root} is being changed by {holder}; try again when it has finished")
        self.holder = holder


class NameTaken(StoreError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"a different model is installed as {name!r}; remove it first or choose another name"
        )
        self.name = name
