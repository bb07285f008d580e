"""A plain tar of regular files, written one way and read only if it is written that way.

The form is POSIX ustar (IEEE Std 1003.1, pax): one 512-byte header per file with the same mode, owner and
time for all, sizes from 8 GiB on in GNU's base-256, two zero blocks at the end and nothing behind them. Any
tar program unpacks it. The reader encodes each header anew from its name and size and compares: a link, a
device, a sparse file, an extension or a field with a second meaning cannot be written that way, so none is
ever interpreted.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from models.errors import MalformedPack
from models.region import Region

BLOCK = 512
MOST_MEMBERS = 4096
_NAME_BYTES, _PREFIX_BYTES = 100, 155
_OCTAL_LIMIT = 8**11
_TIME = 1767225600  # 2026-01-01; one for all, so that the same files give the same bytes
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device",
    b"5": "a directory", b"6": "a pipe", b"7": "a contiguous file", b"S": "a sparse file",
    b"x": "a pax extension", b"g": "a pax extension", b"L": "a GNU extension", b"K": "a GNU extension",
}  # fmt: skip
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"), (b"7z\xbc\xaf", "7z"), (b"\x04\x22\x4d\x18", "lz4"),
)  # fmt: skip


class Member(NamedTuple):
    """A file in a tar: its bytes begin at `offset`."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The one header of a file. Raises ValueError for a name that does not fit."""
    prefix, _, last = name.rpartition("/")
    encoded, before = last.encode("ascii"), prefix.encode("ascii")
    if not encoded or len(encoded) > _NAME_BYTES or len(before) > _PREFIX_BYTES:
        raise ValueError(f"the name {name!r} is too long for a tar")
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    owner = b"0000000\0" * 2
    before_sum = encoded.ljust(_NAME_BYTES, b"\0") + b"0000644\0" + owner + length + b"%011o\0" % _TIME
    behind_sum = b"0".ljust(101, b"\0") + b"ustar\x0000" + bytes(64) + owner
    behind_sum += before.ljust(_PREFIX_BYTES, b"\0") + bytes(12)
    total = sum(before_sum) + sum(behind_sum) + 8 * ord(" ")
    return before_sum + b"%06o\0 " % total + behind_sum


def padding(size: int) -> bytes:
    """What fills a file's last block."""
    return bytes(-size % BLOCK)


def write_end(file: BinaryIO) -> None:
    file.write(bytes(2 * BLOCK))


def read_members(region: Region) -> list[Member]:
    """Every member in order; reads headers only. Raises MalformedPack naming what is wrong and where."""
    for magic, kind in _COMPRESSED:
        if region.length >= len(magic) and region.read(0, len(magic)) == magic:
            raise MalformedPack(region.label, f"is compressed with {kind}; a pack is a plain tar")
    members: list[Member] = []
    at = 0
    while (block := _block(region, at)) != bytes(BLOCK):
        if len(members) == MOST_MEMBERS:
            raise MalformedPack(region.label, f"has more than {MOST_MEMBERS} files")
        member = _member(region, at, block)
        members.append(member)
        at = member.offset + member.size + len(padding(member.size))
    if _block(region, at + BLOCK) != bytes(BLOCK) or at + 2 * BLOCK != region.length:
        raise MalformedPack(region.label, f"goes on at byte {at + BLOCK:,}, behind its end")
    return members


def _member(region: Region, at: int, block: bytes) -> Member:
    kind = block[156:157]
    if kind != b"0":
        raise MalformedPack(region.label, f"holds {_KINDS.get(kind, 'no plain file')} at byte {at:,}")
    try:
        last, before = (_text(block[start:end]) for start, end in ((0, 100), (345, 500)))
        name = f"{before}/{last}" if before else last
        size = _size(block[124:136])
        if header(name, size) != block:
            raise ValueError
    except ValueError:
        raise MalformedPack(region.label, f"has no header of a pack at byte {at:,}") from None
    if size + len(padding(size)) > region.length - at - BLOCK:
        raise MalformedPack(region.label, f"is cut short: {name} would end behind the end of the file")
    if region.read(at + BLOCK + size, len(padding(size))) != padding(size):
        raise MalformedPack(region.label, f"hides bytes behind {name}")
    return Member(name, at + BLOCK, size)


def _block(region: Region, at: int) -> bytes:
    if at + BLOCK > region.length:
        raise MalformedPack(region.label, f"is cut short at byte {region.length:,}")
    return region.read(at, BLOCK)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii")


def _size(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field[:11], 8)
