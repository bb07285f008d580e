"""Where in a text there is personal data or a secret, and the text without it.

Pure, and linear in the text: a cheap search for what every kind needs (digits, @, a mark) comes first, and
only small windows around that are looked at closely. What overlaps is counted once, as the kind that proves
itself best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, get_args

from appliance.config.audit import SensitiveKind
from appliance.security.sensitive import numbers
from appliance.security.sensitive.secrets import secrets_in

KINDS: tuple[SensitiveKind, ...] = get_args(SensitiveKind)
MOST_CHARACTERS = 1 << 20  # of all texts together; more is not looked at, but said

_WIDE = {ord("０") + n: ord("0") + n for n in range(10)} | {ord("＠"): ord("@"), ord("－"): ord("-")}
_HAS_WIDE = re.compile("[０-９＠－]")
_NUMBER = re.compile(r"[0-9][0-9 ().\-]{6,}[0-9Xx]")
_NOT_BEFORE, _NOT_AFTER = r"(?<![0-9A-Za-z_.])", r"(?![0-9A-Za-z_])"
_CHINA_ID = re.compile(_NOT_BEFORE + r"[1-9][0-9]{16}[0-9Xx]" + _NOT_AFTER)
_CARD = re.compile(
    _NOT_BEFORE
    + r"(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    + r"|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})"
    + _NOT_AFTER
)
_SSN = re.compile(r"(?<![0-9A-Za-z_.\-])([0-9]{3})([- ])([0-9]{2})\2([0-9]{4})(?![0-9A-Za-z_\-])")
_MOBILE = re.compile(
    r"(?<![0-9A-Za-z_.\-])1[3-9][0-9](?:[0-9]{8}|([ -])[0-9]{4}\1[0-9]{4})"
    r"(?![0-9A-Za-z_\-]|\.[0-9])"
)
_ABROAD = re.compile(
    r"(?<![0-9A-Za-z_+])\+[0-9]{1,3}+(?:[ .\-]?(?:\([0-9]{1,5}\)|[0-9]{1,5}+)){1,6}+(?![0-9A-Za-z_])"
)
_AMERICAN = re.compile(
    r"(?<![0-9A-Za-z_.\-+])(?:1[ .\-])?(?:\([0-9]{3}\) ?|[0-9]{3}([.\-]))[0-9]{3}[.\-][0-9]{4}"
    r"(?![0-9A-Za-z_\-])"
)
_LOCAL_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+'\-]{0,62}[A-Za-z0-9_+\-])?\Z")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9_\-])"
)
_FILE_NAMES = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "service", "timer", "target"])
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?=[ ]?[A-Z0-9]{4})")


class Found(NamedTuple):
    """A place, as [begin, end) in characters."""

    kind: SensitiveKind
    begin: int
    end: int


Finder = Callable[[str], Iterator[tuple[int, int]]]


class Detector:
    """Looks for `kinds`; all of them where none is named."""

    def __init__(self, kinds: Iterable[SensitiveKind] = ()) -> None:
        wanted = frozenset(kinds) or frozenset(KINDS)
        self._finders = [(kind, finder) for kind, finder in _FINDERS if kind in wanted]

    def find(self, text: str) -> list[Found]:
        """In their order, none overlapping another."""
        read = _narrowed(text)
        found: list[Found] = []
        claimed = bytearray(len(text))
        for kind, finder in self._finders:
            for begin, end in finder(read):
                if not claimed.count(1, begin, end):
                    claimed[begin:end] = b"\1" * (end - begin)
                    found.append(Found(kind, begin, end))
        return sorted(found, key=lambda each: each.begin)

    def kinds_in(self, texts: Iterable[str]) -> tuple[SensitiveKind, ...]:
        """Which kinds there are in any of the texts."""
        missing = dict(self._finders)
        for text in map(_narrowed, texts):
            for kind in [kind for kind, finder in missing.items() if any(True for _ in finder(text))]:
                del missing[kind]
        return tuple(kind for kind, _ in self._finders if kind not in missing)

    def redact(self, text: str) -> str:
        """The text with a word for each place in its stead."""
        pieces, at = [], 0
        for kind, begin, end in self.find(text):
            pieces += [text[at:begin], f"[{kind}]"]
            at = end
        return "".join(pieces) + text[at:] if pieces else text


def _narrowed(text: str) -> str:
    """With the digits of East Asian width as the others; every place stays where it is."""
    return text.translate(_WIDE) if not text.isascii() and _HAS_WIDE.search(text) else text


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Around every run that could be a number; what a pattern needs in front is included."""
    for run in _NUMBER.finditer(text):
        yield max(0, run.start() - 3), min(len(text), run.end() + 1)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for begin, end in _windows(text):
        yield from pattern.finditer(text, begin, end)


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdecimal())


def _china_ids(text: str) -> Iterator[tuple[int, int]]:
    return (m.span() for m in _matches(_CHINA_ID, text) if numbers.is_china_id(m.group()))


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _matches(_CARD, text):
        digits = _digits(match.group())
        if 13 <= len(digits) <= 19 and numbers.is_card(digits):
            yield match.span()


def _ssns(text: str) -> Iterator[tuple[int, int]]:
    return (m.span() for m in _matches(_SSN, text) if numbers.is_us_ssn(m[1], m[3], m[4]))


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for begin, end in _windows(text):
        for match in _ABROAD.finditer(text, begin, end):
            if numbers.is_international(_digits(match.group())):
                yield match.span()
        for match in _MOBILE.finditer(text, begin, end):
            yield match.span()
        for match in _AMERICAN.finditer(text, begin, end):
            if numbers.is_north_american(_digits(match.group())[-10:]):
                yield match.span()


def _emails(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL_PART.search(text, max(0, at - 64), at) if domain is not None else None
        if domain is not None and local is not None and _is_address(local.group(), domain.group()):
            yield local.start(), domain.end()
        at = text.find("@", at + 1)


def _is_address(local: str, domain: str) -> bool:
    """Not a file such as icon@2x.png, a unit such as getty@tty1.service, or git@host of a clone's address."""
    return domain.rpartition(".")[2].lower() not in _FILE_NAMES and local != "git"


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        begin, size = match.start(), numbers.iban_length(text[match.start() : match.start() + 2])
        if not size or (begin and (text[begin - 1].isalnum() and text[begin - 1].isascii())):
            continue
        end = _end_of_iban(text, begin, size)
        is_whole = end == len(text) or not (text[end].isalnum() and text[end].isascii())
        if end and is_whole and numbers.is_iban(text[begin:end].replace(" ", "")):
            yield begin, end


def _end_of_iban(text: str, begin: int, size: int) -> int:
    """Where `size` characters that are no spaces end; 0 where something else comes first."""
    place, left = begin, size
    while left and place < len(text):
        character = text[place]
        if character in _IBAN_CHARACTERS:
            left -= 1
        elif character != " " or text[place - 1] == " ":
            return 0
        place += 1
    return 0 if left else place


_IBAN_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_FINDERS: tuple[tuple[SensitiveKind, Finder], ...] = (  # the one that proves itself best comes first
    ("secret", secrets_in),
    ("iban", _ibans),
    ("china-id", _china_ids),
    ("card", _cards),
    ("us-ssn", _ssns),
    ("phone", _phones),
    ("email", _emails),
)
