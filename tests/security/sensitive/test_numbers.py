"""Numbers that prove themselves, each rule by itself."""

from __future__ import annotations

import pytest

from appliance.security.sensitive.numbers import _ID_CHECKS, _ID_WEIGHTS, is_china_id, is_iban


def with_check(body: str) -> str:
    """The 18 characters whose last one fits."""
    total = sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True))
    return body + _ID_CHECKS[total % 11]


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        ("11010519491231002", True),
        ("11010520000229001", True),
        ("11010519000101001", True),
        ("11010518991231001", False),  # too long ago
        ("11010519491331002", False),  # no such month
        ("11010519490229001", False),  # no leap year
        ("00010519491231002", False),  # no such province
    ],
)
def test_a_chinese_id_needs_a_province_a_day_and_a_check(body: str, is_one: bool) -> None:
    whole = with_check(body)
    assert is_china_id(whole) is is_one
    assert is_china_id(whole.lower()) is is_one
    wrong = "0" if whole[-1] != "0" else "1"
    assert not is_china_id(body + wrong)
    assert not is_china_id(body)


def test_an_iban_has_its_countrys_length_and_a_check() -> None:
    assert is_iban("DE89370400440532013000")
    assert not is_iban("DE8937040044053201300")
    assert not is_iban("XX89370400440532013000")
    assert not is_iban("DE88370400440532013000")
