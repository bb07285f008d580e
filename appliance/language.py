"""Which languages a text can be in, as far as its script tells. Pure, and deliberately modest: it separates
Chinese, Japanese, Korean and alphabetic text, not English from French."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ebef]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af\u1100-\u11ff]")
_LETTER = re.compile(r"[^\W\d_]")


def script_language(text: str) -> str | None:
    """`zh`, `ja` or `ko` when that script makes up a third or more of the letters, else None."""
    letters = len(_LETTER.findall(text))
    if letters == 0:
        return None
    han, kana, hangul = (len(pattern.findall(text)) for pattern in (_HAN, _KANA, _HANGUL))
    if 3 * (han + kana + hangul) < letters:
        return None
    if hangul > han + kana:
        return "ko"
    return "ja" if kana * 5 > han else "zh"


def speaks(languages: Sequence[str], text: str) -> bool:
    """Whether a model that lists `languages` can be expected to read `text`; an empty list says nothing."""
    found = script_language(text)
    return not languages or found is None or any(tag.split("-")[0] == found for tag in languages)
