"""Numbers that name a person or an account, and how each proves that it is one.

Pure. Chinese resident ids: GB 11643-1999 (ISO 7064 MOD 11-2, region, date of birth). Cards: ISO/IEC 7812
(Luhn, issuer's range and length). IBAN: ISO 13616 (MOD 97-10, a length per country). US social security
numbers and phones have no check digit: the form counts, and numbers that nobody is given are left out.
"""

from __future__ import annotations

import re
from datetime import date

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_PROVINCES = frozenset(
    (
        "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 "
        "81 82 83"
    ).split()
)
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in (
        word.split(":")
        for word in (
            "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 "
            "DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 "
            "GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 "
            "LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 "
            "PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 "
            "SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
        ).split()
    )
}


def is_china_id(text: str) -> bool:
    """Of 18 characters: 17 digits and a check character."""
    if len(text) != 18 or not text[:17].isdecimal() or text[:2] not in _PROVINCES:
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    weighted = sum(int(digit) * weight for digit, weight in zip(text, _ID_WEIGHTS, strict=False))
    return born.year >= 1900 and text[17].upper() == _ID_CHECKS[weighted % 11]


def is_card(digits: str) -> bool:
    """Digits only, 13 to 19 of them."""
    return len(set(digits)) > 1 and _has_issuer(digits) and _luhn(digits)


def _has_issuer(digits: str) -> bool:
    size, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    return (
        (digits[0] == "4" and size in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)  # Mastercard
        or (two in (34, 37) and size == 15)  # American Express
        or (two == 62 and 16 <= size <= 19)  # UnionPay
        or ((four == 6011 or two == 65 or 644 <= three <= 649) and 16 <= size <= 19)  # Discover
        or (3528 <= four <= 3589 and 16 <= size <= 19)  # JCB
        or ((300 <= three <= 305 or two in (36, 38, 39)) and size == 14)  # Diners
    )


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Without its spaces, in capitals."""
    if _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def iban_length(country: str) -> int:
    """Characters of an IBAN of that country; 0 where there are none."""
    return _IBAN_LENGTHS.get(country, 0)


def is_us_ssn(area: str, group: str, serial: str) -> bool:
    is_example = (area, group, serial) in (
        ("078", "05", "1120"),
        ("219", "09", "9999"),
        ("123", "45", "6789"),
    )
    never = area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000"
    return not never and not is_example


_NANP = re.compile(r"\A[2-9][0-8][0-9][2-9][0-9]{6}\Z")
_CALLING_CODES = re.compile(
    r"\A(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-689]\d|3[578]\d|42\d|5[09]\d|6[789]\d|8[058]\d|9[679]\d)"
)


def is_north_american(digits: str) -> bool:
    """Ten digits; 555-01xx is for stories."""
    return bool(_NANP.match(digits)) and digits[3:8] != "55501" and digits[3:6] not in ("411", "911")


def is_international(digits: str) -> bool:
    """The digits behind a +, as E.164 has them."""
    return 8 <= len(digits) <= 15 and bool(_CALLING_CODES.match(digits))
