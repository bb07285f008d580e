"""Why a document could not be read: told per file, in words for whoever put it there."""

from __future__ import annotations

from typing import Literal


class Unreadable(Exception):
    """`code` as OpenAI's vector store files have it."""

    def __init__(
        self, message: str, code: Literal["unsupported_file", "invalid_file"] = "invalid_file"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class TooMuchText(Unreadable):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the document holds more than {limit:,} characters of text; split it")
