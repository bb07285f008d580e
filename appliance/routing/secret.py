"""A platform's key: read once from its variable or file, shown nowhere, spent only as a request header.

The key has no attribute that prints or pickles it; errors name the source, never the content.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from appliance.errors import ConfigError

MAX_KEY_BYTES = 8192


class Secret:
    """A key and where it came from; `repr` gives the source only."""

    __slots__ = ("__key", "source")

    def __init__(self, key: str, source: str) -> None:
        """Raises ConfigError when `key` could not stand in a header."""
        if not key or len(key) > MAX_KEY_BYTES or not all("!" <= character <= "~" for character in key):
            raise ConfigError(
                f"the key in {source} must be 1 to {MAX_KEY_BYTES} printable ASCII characters without spaces"
            )
        self.__key = key
        self.source = source

    def header(self) -> bytes:
        """The `authorization` header line."""
        return b"authorization: Bearer " + self.__key.encode("ascii") + b"\r\n"

    def hidden_in(self, text: str) -> str:
        """`text` without the key: services have been seen to repeat it in their errors."""
        return text.replace(self.__key, "…") if len(self.__key) >= 4 else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__key, other.__key)

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Secret(from {self.source})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not for storing or sending")


def read_key(variable: str, file: str, environment: Mapping[str, str]) -> Secret | None:
    """The key that a platform names, or None when it names none.

    Raises ConfigError when the variable is not set or the file cannot be read.
    """
    if variable:
        key = environment.get(variable, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {variable} is to hold a platform's key; it is not set"
            )
        return Secret(key, f"environment variable {variable}")
    if file:
        try:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_KEY_BYTES + 2)
        except OSError as error:
            raise ConfigError(f"the key file {file} cannot be read: {error.strerror}") from None
        try:
            return Secret(content.decode("ascii").strip(), f"file {file}")
        except UnicodeDecodeError:
            raise ConfigError(f"the key file {file} is not plain ASCII text") from None
    return None
