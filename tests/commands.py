"""The `hearth` command as a user runs it: a process of its own, in a home of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from appliance import paths
from tests.serving import own_environment, store_directory


def run_hearth(
    *words: str, home: Path, url: str | None = None, typed: str = "", share_models: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs the command in `home`, which sees the tests' models unless told otherwise."""
    home.mkdir(parents=True, exist_ok=True)
    if share_models and not (home / "models").exists():
        (home / "models").symlink_to(store_directory(), target_is_directory=True)
    environment = own_environment(home) | ({"HEARTH_URL": url} if url else {})
    return subprocess.run(
        [*paths.self_command(), *words],
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
