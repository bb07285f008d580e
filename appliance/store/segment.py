"""Text as words that a full-text index can count. Pure.

Chinese, Japanese and Korean are written without spaces between words, so their runs become overlapping pairs
of characters: 知识库 is found by 知识 and by 识库. The same is done to what is indexed and to what is asked.
Everything else is left to SQLite's own tokenizer, which splits at punctuation and stems English.
"""

from __future__ import annotations

import re
import unicodedata

_RUN = re.compile(
    "[\u3005\u3006\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_WORD = re.compile(r"\w+")

# English words that stand in most passages: they cost much to look up, and tell little.
COMMON_WORDS = frozenset(
    "a about all also an and any are as at be because been but by can could did do does for from had has have"
    " he her his how i if in into is it its me more most my no not of on one only or other our s she should"
    " so some such t than that the their them then there these they this to up us was we were what when where"
    " which while who whom whose why will with would you your".split()
)


def segmented(text: str) -> str:
    """`text` in Unicode's compatibility form, with runs of CJK characters as space-separated pairs."""
    return _RUN.sub(_pairs, unicodedata.normalize("NFKC", text))


def query_words(text: str, limit: int) -> list[str]:
    """The distinct words to look for, at most `limit`, common English ones left out if others remain."""
    words = list(dict.fromkeys(_WORD.findall(segmented(text).lower())))
    telling = [word for word in words if word not in COMMON_WORDS]
    return (telling or words)[:limit]


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    pairs = [run[place : place + 2] for place in range(len(run) - 1)] or [run]
    return f" {' '.join(pairs)} "
