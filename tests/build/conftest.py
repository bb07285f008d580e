"""Puts build/ on the path: its files are scripts, run by the system's Python, not a package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))
