"""What somebody who helps needs to see of an installation, and nothing that is secret or anybody's text.

Collects from the home, and from the running server where there is one. No prompt, no answer, no document, no
key, no audit line is read for it; what is read as text (settings, log) goes through the detector of personal
data and secrets, and settings that name a place in the network are told by their host only.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance import paths, version
from appliance.client import Client
from appliance.config.diff import leaves_of
from appliance.config.history import History
from appliance.config.layers import PREFIX
from appliance.config.schema import Settings
from appliance.doctor import examine
from appliance.errors import HearthError, SetupError
from appliance.security.audit.files import KEY, read_key
from appliance.security.audit.verify import verify_log
from appliance.security.sensitive.detector import Detector
from models.library import Library

LOG_LINES = 4096
MOST_FILES = 20_000  # of the home, that are listed
SERVER_PARTS = {
    "status.json": "/admin/v1/status",
    "ready.json": "/readyz",
    "models.json": "/admin/v1/models",
    "requests.json": "/admin/v1/requests",
    "routing.json": "/admin/v1/routing",
    "history.json": "/admin/v1/history?seconds=3600",
    "audit-status.json": "/admin/v1/audit/status",
}

_detector = Detector()
_URL = re.compile(r"(https?://[A-Za-z0-9.:\-\[\]]*)(?:[^\s\"'<>]*)")


def write_bundle(target: Path, settings: Settings, library: Library, client: Client) -> list[str]:
    """A zip file at `target`; what could not be collected, in words. Raises SetupError."""
    missing: list[str] = []
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, collect in _parts(settings, library, client):
                try:
                    content = collect()
                except (HearthError, OSError, ValueError) as error:
                    missing.append(f"{name}: {_text(str(error))}")
                    continue
                bundle.writestr(name, content)
            bundle.writestr("missing.txt", "\n".join(missing))
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror or error}") from error
    return missing


def _parts(
    settings: Settings, library: Library, client: Client
) -> Iterator[tuple[str, Callable[[], str | bytes]]]:
    yield "version.txt", lambda: version.VERSION
    yield "doctor.json", lambda: _json(msgspec.to_builtins(list(examine(settings, library))))
    yield "settings.json", lambda: _json(_told(leaves_of(settings)))
    yield "environment.txt", lambda: "\n".join(sorted(n for n in os.environ if n.startswith(PREFIX)))
    yield "configurations.json", _configurations
    yield "home.txt", _listing
    yield "audit-check.json", lambda: _audit(settings)
    for name, path in SERVER_PARTS.items():
        yield name, lambda path=path: _json(_told(client.get(path)))  # type: ignore[misc]
    yield "metrics.txt", lambda: _text(client.text("/metrics"))
    yield "log.jsonl", lambda: _log(client)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _told(value: Any) -> Any:
    """Text without personal data, secrets, or what stands in an address behind its host."""
    if isinstance(value, dict):
        return {str(key): _told(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, msgspec.Struct):
        return _told(msgspec.to_builtins(value))
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return _detector.redact(_URL.sub(r"\1/…", text))


def _configurations() -> str:
    """When which settings changed, without their values."""
    versions = History(paths.config_history(paths.home())).versions()[:100]
    return _json(
        [
            {"version": each.number, "time": each.time, "changed": [change.key for change in each.changes]}
            for each in versions
        ]
    )


def _listing() -> str:
    """Sizes of the home's files; uploads by their number only: their names are in the database."""
    lines: list[str] = []
    home = paths.home()
    for path in home.rglob("*"):
        if len(lines) >= MOST_FILES:
            lines.append("…")
            break
        if path.is_file() and not path.is_symlink():
            lines.append(f"{path.stat().st_size:>14} {path.relative_to(home)}")
    return "\n".join(lines)


def _audit(settings: Settings) -> str:
    directory = paths.audit(paths.home())
    configured = settings.audit.key_file
    key = read_key(Path(configured).expanduser() if configured else directory / KEY)
    return _json(_told(verify_log(directory, key)))


def _log(client: Client) -> str:
    lines = client.logs(limit=LOG_LINES).data
    told = [msgspec.structs.replace(line, message=_text(line.message)) for line in lines]
    return "\n".join(msgspec.json.encode(line).decode() for line in told)
