"""Owns the words for a set-up that failed: the cause, the remedy, the end of the log.

The tools that set-up runs report in prose only, so this is the one place where their prose is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_LINES = 15


@dataclass(frozen=True)
class Failure:
    """A plain sentence on what was wrong and one on what to do."""

    cause: str
    remedy: str


class SetupError(Exception):
    """Set-up cannot go on. `log_tail` holds the last lines a tool printed, if one ran."""

    def __init__(self, failure: Failure, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(failure.cause)
        self.failure = failure
        self.log_tail = log_tail


# First match wins: a full disk also makes compilers and downloads fail, so it is asked for first.
_KNOWN: tuple[tuple[re.Pattern[str], Failure], ...] = (
    (
        re.compile(r"No space left on device|Errno 28|Disk quota exceeded"),
        Failure("The disk is full.", "Free about 2 GB where this directory and /tmp are, then run it again."),
    ),
    (
        re.compile(r"DO NOT MATCH THE HASHES|hashes are required in --require-hashes"),
        Failure(
            "A downloaded file is not the one that the lock names, so it was not installed.",
            "Run it again; if it happens again, the package source serves a changed file: do not trust it.",
        ),
    ),
    (
        re.compile(
            r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|ConnectTimeout"
            r"|Network is unreachable|ReadTimeout|Connection refused|ProxyError|Connection reset by peer"
            r"|CERTIFICATE_VERIFY_FAILED"
        ),
        Failure(
            "The package source that pip is configured for cannot be reached.",
            "Check the network and the output of 'pip config list', then run it again; "
            "finished parts are kept.",
        ),
    ),
    (
        re.compile(r"Could not find a version that satisfies|No matching distribution found"),
        Failure(
            "The package source has no file for this machine of a version that the lock names.",
            "Check the network and the output of 'pip config list': an index may be unreachable or old, "
            "or this machine unsupported.",
        ),
    ),
    (
        re.compile(r"Killed signal terminated program|virtual memory exhausted|cannot allocate memory", re.I),
        Failure(
            "The compiler ran out of memory.",
            "Close other programs, or run it again with CMAKE_BUILD_PARALLEL_LEVEL=1 in the environment.",
        ),
    ),
    (
        re.compile(r"Python\.h: No such file"),
        Failure("Python's headers are missing.", "On Debian: apt-get install python3-dev"),
    ),
    (
        re.compile(
            r"No CMAKE_C(XX)?_COMPILER|unable to execute '[^']*(gcc|g\+\+|cc)'"
            r"|Could not find CMake|C(XX)? compiler identification is unknown"
        ),
        Failure("There is no working C++ compiler.", "On Debian: apt-get install gcc g++ cmake make"),
    ),
    (
        re.compile(r"Permission denied|Errno 13"),
        Failure(
            "A file cannot be written.",
            "Check who owns this directory and your cache directory; do not mix runs with and without sudo.",
        ),
    ),
)

_COMPILER_ERROR = re.compile(r":\d+: (fatal )?error: |FAILED: |CMake Error")


def diagnose(output: str, command: str) -> Failure:
    """What the output of a failed `command` means, as far as its words are known."""
    for pattern, failure in _KNOWN:
        if pattern.search(output):
            return failure
    if _COMPILER_ERROR.search(output):
        return Failure(
            f"{command} failed to compile.",
            "The log shows the compiler's first error; gcc 12 and cmake 3.25 are known to work.",
        )
    return Failure(f"{command} failed.", "The log has all that it printed.")


def report(error: SetupError, log: str) -> str:
    """The text shown to the person who ran set-up."""
    lines = ["", f"hearth set-up: {error.failure.cause}", f"  {error.failure.remedy}"]
    if error.log_tail:
        lines += ["", *(f"  | {line}" for line in error.log_tail[-TAIL_LINES:]), "", f"  Full log: {log}"]
    return "\n".join(lines) + "\n"
