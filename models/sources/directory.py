"""Takes a file from a directory: a mounted stick, another store, a folder of downloads.

For file F of model M with hash H it looks at `M/F`, `blobs/sha256-H` and `F`. Links are refused, and a
candidate of another size is passed over. Knows no network.
"""

from __future__ import annotations

from pathlib import Path

from models.errors import MalformedModel, SourceUnavailable
from models.manifest import ModelFile, RawFile
from models.partial import Partial
from models.progress import Meter
from models.region import Region

_CHUNK = 1 << 20


def copy_from(directory: Path, model: str, file: ModelFile | RawFile, partial: Partial, meter: Meter) -> None:
    """Appends what is missing. Raises SourceUnavailable when the directory has no such file."""
    for candidate in (
        directory / model / file.path,
        directory / "blobs" / f"sha256-{file.sha256}",
        directory / file.path,
    ):
        try:
            with Region(candidate, follow_links=False) as region:
                if region.length != file.bytes:
                    continue
                while partial.missing:
                    chunk = region.read(partial.size, min(_CHUNK, partial.missing))
                    partial.write(chunk, str(candidate))
                    meter.advance(len(chunk))
                return
        except (OSError, MalformedModel):
            continue
    raise SourceUnavailable(file.path, (f"{directory} does not have it with {file.bytes:,} bytes",))
