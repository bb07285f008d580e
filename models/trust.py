"""Whose signatures this machine accepts, and how new what it has is: pinned on first use, never taken back
silently.

    <home>/trust.json    per name (`hearth` for the executable, else a pack's): the verifying key and the
    version

The first installation of a name pins its key. From then on another key is refused, and so is a version lower
than the one that was installed, so that neither a stranger nor an old, flawed edition gets in. Knows nothing
of what is signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from models.disk import replace_file
from models.errors import UntrustedSignature, VersionTooLow
from models.manifest import ModelName, decode_json
from models.signing import KeyText

Version = Annotated[str, Meta(pattern=r"\A(?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8})){0,3}\Z")]


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is accepted under a name: signatures of `key`, from `version` on."""

    key: KeyText
    version: Version


Pins = dict[ModelName, Pin]


class Trust:
    """The pins of one home. Raises ManifestError for a file it cannot read: it never starts anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pins: Pins = {}
        if path.exists():
            self._pins = decode_json(path.read_bytes(), Pins, str(path))

    def pins(self) -> dict[str, Pin]:
        """By name, sorted."""
        return {name: self._pins[name] for name in sorted(self._pins)}

    def check(self, name: str, key: str, version: str) -> bool:
        """Whether the name is new here. Raises UntrustedSignature for another key, VersionTooLow."""
        pin = self._pins.get(name)
        if pin is None:
            return True
        if pin.key != key:
            raise UntrustedSignature(
                f"{name} is signed by {key}, but {pin.key} only is accepted here; if its maker confirms the "
                f"new key, run: hearth signing-key forget {name}"
            )
        if parse_version(version) < parse_version(pin.version):
            raise VersionTooLow(name, version, pin.version)
        return False

    def pin(self, name: str, key: str, version: str) -> None:
        """Accept this key, and nothing older, from now on. Raises as `check`, ManifestError, StoreFull."""
        pins = decode_json(msgspec.json.encode(self._pins | {name: Pin(key, version)}), Pins, "trust.json")
        self.check(name, key, version)
        self._write(pins)

    def forget(self, name: str) -> bool:
        """Let the next installation of the name pin anew; whether there was anything to forget."""
        if name not in self._pins:
            return False
        self._write({other: pin for other, pin in self._pins.items() if other != name})
        return True

    def _write(self, pins: Pins) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, msgspec.json.encode(pins, order="sorted"))
        self._pins = pins


def parse_version(version: str) -> tuple[int, ...]:
    """`1.10` as (1, 10, 0, 0): what versions are compared by."""
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))
