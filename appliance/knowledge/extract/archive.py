"""Zip files that documents come in: looked at before a library unpacks them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from appliance.knowledge.extract.errors import Unreadable

MOST_MEMBERS = 20_000
MOST_BYTES = 1024 * 1024 * 1024
MOST_RATIO = 200
FREE_BYTES = 16 * 1024 * 1024  # what may be packed as tightly as it likes


def checked(path: Path) -> list[str]:
    """The names of the members. Raises Unreadable for what is no zip file, or one made to burst."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise Unreadable(f"it is damaged: {error}") from error
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if len(members) > MOST_MEMBERS or unpacked > MOST_BYTES:
        raise Unreadable(f"it would unpack to {unpacked:,} bytes in {len(members):,} parts; that is too much")
    if unpacked > FREE_BYTES and unpacked > MOST_RATIO * max(1, packed):
        raise Unreadable(f"it would unpack to {unpacked // max(1, packed)} times its size; no document does")
    if any(member.flag_bits & 1 for member in members):
        raise Unreadable("it is protected by a password; save it without one")
    return [member.filename for member in members]
