"""Keys, tokens and passwords in text: by the marks that their makers gave them, with their checksums.

Pure. GitHub's and npm's tokens end in a CRC-32 of the rest, in base 62. What stands behind `password=` and
the like counts when it looks like something that nobody would write as prose.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LEAST_BITS = 3.3  # per character of a password behind a name
_NAMED_VALUE = re.compile(
    r"""["']?\s{0,8}(?:=>|[:=]|：)\s{0,8}["']?(?:Bearer\s{1,4})?([^\s"'`,;，。；<>(){}\[\]]{8,256})""",
    re.IGNORECASE,
)
_NAMES = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "密码",
    "口令",
)


class Mark(NamedTuple):
    """`starts` the secret; `pattern` matches it whole; `is_real` tells whether what matched is one."""

    starts: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool]


def _any(_: str) -> bool:
    return True


def _varied(text: str) -> bool:
    """Not a placeholder of a manual, such as xxxx or 1234."""
    return bits_per_character(text) >= LEAST_BITS


def _mixed(text: str) -> bool:
    """Not words joined by hyphens."""
    return _varied(text) and all(any(test(c) for c in text) for test in (str.isupper, str.isdecimal))


def _crc_fits(text: str) -> bool:
    """The last six characters are the CRC-32 of those between the mark and them."""
    token = text.partition("_")[2]
    crc = zlib.crc32(token[:-6].encode("ascii"))
    digits = ""
    while crc:
        crc, digit = divmod(crc, 62)
        digits = _BASE62[digit] + digits
    return token[-6:] == digits.rjust(6, "0")


def _is_jwt(text: str) -> bool:
    head = text.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


def _mark(starts: str, rest: str, is_real: Callable[[str], bool] = _varied) -> Mark:
    return Mark(starts, re.compile(re.escape(starts) + rest), is_real)


_END = r"(?![A-Za-z0-9_])"
MARKS = (
    _mark("AKIA", r"[0-9A-Z]{16}" + _END),
    _mark("ASIA", r"[0-9A-Z]{16}" + _END),
    *(_mark(f"gh{kind}_", r"[A-Za-z0-9]{36}" + _END, _crc_fits) for kind in "pousr"),
    _mark("github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}" + _END),
    _mark("npm_", r"[A-Za-z0-9]{36}" + _END, _crc_fits),
    _mark("glpat-", r"[A-Za-z0-9_-]{20,64}" + _END),
    _mark("sk-", r"(?:[a-z]{2,12}[0-9]{0,4}-){0,3}[A-Za-z0-9_-]{20,256}" + _END, _mixed),
    _mark("sk_live_", r"[A-Za-z0-9]{16,128}" + _END),
    _mark("rk_live_", r"[A-Za-z0-9]{16,128}" + _END),
    _mark("hearth-", r"[A-Za-z0-9_-]{20,128}" + _END, _mixed),
    _mark("AIza", r"[0-9A-Za-z_-]{35}" + _END),
    _mark("hf_", r"[A-Za-z]{30,40}" + _END),
    *(_mark(f"xox{kind}-", r"[0-9A-Za-z-]{16,128}" + _END) for kind in "abprs"),
    _mark("eyJ", r"[A-Za-z0-9_-]{8,2048}\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,2048}" + _END, _is_jwt),
    _mark(
        "-----BEGIN ",
        r"(?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----(?:[^-]{1,16384}-----END [A-Z ]{1,40}-----)?",
        _any,
    ),
)


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """The places of all secrets, as [begin, end); they may overlap."""
    for mark in MARKS:
        at = text.find(mark.starts)
        while at >= 0:
            found = mark.pattern.match(text, at) if _begins_word(text, at) else None
            if found is not None and mark.is_real(found.group()):
                yield found.span()
            at = text.find(mark.starts, at + len(mark.starts))
    yield from _named_values(text)


def bits_per_character(text: str) -> float:
    """Shannon's entropy of the characters."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


def _named_values(text: str) -> Iterator[tuple[int, int]]:
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters change their length: their places would not fit
        lowered = text
    for name in _NAMES:
        at = lowered.find(name)
        while at >= 0:
            found = _NAMED_VALUE.match(text, at + len(name))
            if found is not None and _looks_secret(found.group(1)):
                yield found.span(1)
            at = lowered.find(name, found.end() if found is not None else at + len(name))


def _looks_secret(value: str) -> bool:
    """Three kinds of characters and no words, or long and of no language."""
    if "/" in value[:2] or value.startswith(("$", "%", "http:", "https:")):
        return False  # a path, a variable, an address
    kinds = sum(any(test(c) for c in value) for test in (str.islower, str.isupper, str.isdecimal, _is_mark))
    has_digit = any(c.isdecimal() for c in value)
    if bits_per_character(value) < LEAST_BITS - (0.5 if len(value) < 12 else 0):
        return False
    return (kinds >= 3 and has_digit) or (len(value) >= 20 and has_digit and kinds >= 2 and "_" not in value)


def _is_mark(character: str) -> bool:
    return character in "!#$%&*+=?@^~"


def _begins_word(text: str, at: int) -> bool:
    return at == 0 or not (text[at - 1].isascii() and (text[at - 1].isalnum() or text[at - 1] in "_-"))
