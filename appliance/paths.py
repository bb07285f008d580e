"""Where Hearth's files live, and how Hearth starts itself again, from source or frozen.

`HEARTH_HOME` moves everything: configuration, models, data. Without it the platform's data directory is
used; derived files that may be lost (caches) go to the platform's cache directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs


def home() -> Path:
    """The data directory: `$HEARTH_HOME`, else the platform's own. Not created here."""
    configured = os.environ.get("HEARTH_HOME")
    return Path(configured).expanduser().absolute() if configured else platformdirs.user_data_path("hearth")


def cache() -> Path:
    """Files that can always be made again."""
    configured = os.environ.get("HEARTH_HOME")
    return home() / "cache" if configured else platformdirs.user_cache_path("hearth")


def models(at: Path) -> Path:
    """The model store within the home `at`."""
    return at / "models"


def prefixes(cache: Path) -> Path:
    """Where stored beginnings of prompts are, a directory for each model."""
    return cache / "prefixes"


def knowledge(at: Path) -> Path:
    """Knowledge bases and uploaded files within the home `at`."""
    return at / "knowledge"


def budgets(at: Path) -> Path:
    """What was spent on online models, within the home `at`."""
    return at / "budgets.db"


def archive(at: Path) -> Path:
    """Kept responses, conversations and batches within the home `at`."""
    return at / "archive"


def access(at: Path) -> Path:
    """The keys within the home `at`."""
    return at / "access"


def backups(at: Path) -> Path:
    """Backups of the home `at` that it keeps itself."""
    return at / "backups"


def audit(at: Path) -> Path:
    """The audit log within the home `at`."""
    return at / "audit"


def signing_keys(at: Path) -> Path:
    """The keys that sign packs and executables, within the home `at`."""
    return at / "signing-keys"


def trust(at: Path) -> Path:
    """Whose packs and executables are accepted, within the home `at`."""
    return at / "trust.json"


def carried_bases(at: Path) -> Path:
    """Exported knowledge bases that wait to be taken in, within the home `at`."""
    return at / "carried-bases"


def chats(at: Path) -> Path:
    """The conversations that the terminal UI keeps, within the home `at` of whoever runs it."""
    return at / "chats"


def config_file(at: Path) -> Path:
    return at / "hearth.toml"


def config_history(at: Path) -> Path:
    """The versions of the configuration within the home `at`."""
    return at / "config-history"


def address(at: Path) -> Path:
    """Where the server of the home `at` is, while it runs; `appliance.address` reads and writes it."""
    return at / "address"


def bundle() -> Path | None:
    """The one-file executable whose models this program uses: `$HEARTH_BUNDLE`, which its launcher sets."""
    named = os.environ.get("HEARTH_BUNDLE")
    return Path(named) if named else None


def is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def self_command() -> list[str]:
    """The words that start this same program anew."""
    return [sys.executable] if is_frozen() else [sys.executable, "-P", "-m", "appliance"]
