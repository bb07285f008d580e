"""What counts as personal data or a secret, what does not, and that looking takes no longer than reading."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.sensitive.detector import KINDS, Detector
from appliance.security.sensitive.secrets import _BASE62

DATA = Path(__file__).parents[4] / "shared" / "data"
ALL = Detector()


def crc_token(prefix: str, body: str) -> str:
    """A token as its maker gives it out, with its checksum."""
    import zlib

    crc, digits = zlib.crc32(body.encode()), ""
    while crc:
        crc, digit = divmod(crc, 62)
        digits = _BASE62[digit] + digits
    return prefix + body + digits.rjust(6, "0")


GITHUB = crc_token("ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

FOUND = [
    ("china-id", "11010519491231002X"),
    ("china-id", "440524198001010013"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("card", "3782 822463 10005"),
    ("card", "6222021234567890128"),
    ("phone", "13800138000"),
    ("phone", "138 0013 8000"),
    ("phone", "+86 138 0013 8000"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "(212) 736-5000"),
    ("phone", "１３８００１３８０００"),
    ("email", "jane.doe+news@mail.example.org"),
    ("email", "o'neil@example.co.uk"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("us-ssn", "536-90-4399"),
    ("secret", GITHUB),
    ("secret", "AKIAIOSFODNN7EXAMPLQ"),
    ("secret", "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7"),
    ("secret", JWT),
    (
        "secret",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----",
    ),
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
@pytest.mark.parametrize("frame", ["{}", "it is {}.", "号码是{}，谢谢", "({})", "a\n{}\nb"])
def test_it_is_found_and_taken_out(kind: str, text: str, frame: str) -> None:
    whole = frame.format(text)
    found = ALL.find(whole)
    assert [(each.kind, whole[each.begin : each.end]) for each in found] == [(kind, text)]
    assert ALL.redact(whole) == frame.format(f"[{kind}]")
    assert ALL.kinds_in(["nothing", whole]) == (kind,)


@pytest.mark.parametrize(
    ("named", "value"),
    [
        ('password = "{}"', "Tr0ub4dor&3xyz"),
        ("api_key: {}", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
        ("密码：{}", "Xk9#mQ2$vL7p"),
        ("Authorization token: Bearer {}", "q7Wm2kZr9TxB4nYc8LpV"),
        ("İstanbul, password = {}", "Tr0ub4dor&3xyz"),  # its small letters are more characters
    ],
)
def test_a_value_behind_its_name_is_found(named: str, value: str) -> None:
    text = named.format(value)
    assert [text[each.begin : each.end] for each in ALL.find(text)] == [value]


NOT_FOUND = [
    "110105194912310021",  # a wrong check character
    "990105194912310021",  # no such province
    "4111 1111 1111 1112",  # Luhn does not fit
    "1234567890123456",  # no issuer
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",
    "110105194913310021, 110105180012310025, 991105194912310025",  # no such day, year or province
    "DE89 3704  0044 0532 0130 00, DE89-3704-0044-0532-0130-00, DE89 3704",
    "eyJhbGciOiJIUz.eyJzdWIiOiIxMjM0.dozjgNryP4J3 and eyJub25lIjoiYSJ9.eyJzdWIiOiIxMjM0.dozjgNry",  # no JWTs
    "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567",
    "078-05-1120",  # printed in every wallet once
    "(212) 555-0142",  # for stories
    "12345678901",
    "23800138000",
    "version 1.2.3.4-5678-9012, build 20240131123456",
    "192.168.178.101:8080 and 10.0.0.1",
    "2026-11-26 12:34:56.789012",
    "icon@2x.png, getty@tty1.service, git@github.com:user/repo.git, @home, a@b",
    "3.14159265358979323846264338327950288",
    "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",  # its checksum does not fit
    "password: required. The password is stored in a file; token = tokenizer.encode(text)",
    "sk-learn and task-force-management-and-so-on, disk-usage-of-the-whole-machine",
    "secret: see /etc/shadow, api_key = os.environ['API_KEY'], password=$PASSWORD",
    "0x1234567890abcdef1234567890abcdef12345678",
    "ISBN 978-3-16-148410-0",
    "The population was 1,388,001,380 in 2017.",
]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_it_is_not_found(text: str) -> None:
    assert [(each.kind, text[each.begin : each.end]) for each in ALL.find(text)] == []


def test_only_the_kinds_that_are_wanted_are_looked_for() -> None:
    text = "jane@example.org 13800138000"
    assert Detector(["phone"]).redact(text) == "jane@example.org [phone]"
    assert Detector(["card"]).kinds_in([text]) == ()
    assert ALL.kinds_in([text]) == ("phone", "email")


@given(st.text(max_size=400))
def test_any_text_is_taken_and_what_was_redacted_is_gone(text: str) -> None:
    found = ALL.find(text)
    assert all(0 <= each.begin < each.end <= len(text) for each in found)
    assert all(one.end <= other.begin for one, other in itertools.pairwise(found))
    assert set(ALL.kinds_in([text])) >= {each.kind for each in found}
    assert not {each.kind for each in ALL.find(ALL.redact(text))} & {"card", "iban", "china-id", "email"}


@given(st.integers(0, 10**17 - 1))
def test_one_of_eleven_check_characters_makes_a_resident_id(number: int) -> None:
    body = f"110105{1950 + number % 60}{1 + number % 12:02}{1 + number % 28:02}{number % 1000:03}"
    fitting = [c for c in "0123456789X" if Detector(["china-id"]).find(body + c)]
    assert len(fitting) == 1


def texts_of_people() -> dict[str, list[str]]:
    """Wikipedia in English and Chinese, abstracts, captions: none of it holds personal data of this kind."""
    texts = {
        "abstracts": [(DATA / "cran.all.1400.xml").read_text("utf-8", "replace")],
        "captions": [(DATA / "stsb-en-test.csv").read_text("utf-8")],
    }
    for language in ("en", "zh"):
        read = json.loads((DATA / f"xquad.{language}.json").read_text("utf-8"))
        texts[language] = [p["context"] for article in read["data"] for p in article["paragraphs"]]
    return texts


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared texts are not beside this repository")
def test_plain_texts_hold_nothing() -> None:
    """2.2 million characters, 0 false positives when this was written; a few would be no failure."""
    found = [
        (name, each.kind, text[each.begin : each.end])
        for name, texts in texts_of_people().items()
        for text in texts
        for each in ALL.find(text)
    ]
    assert len(found) <= 5, found


HOSTILE = {
    "digits": "1" * 200_000,
    "pairs": "1 " * 100_000,
    "plus": "+111111111111111111111111 " * 8_000,
    "at": "a@" * 100_000,
    "mails": ("a" * 63 + "@" + "b." * 30) * 1_600,
    "iban": "GB82 WEST " * 20_000,
    "password": "password:" * 22_000,
    "keys": "sk-" * 66_000,
    "begin": "-----BEGIN PRIVATE KEY-----" * 7_000,
    "jwt": "eyJ" * 66_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_makes_looking_slow(name: str) -> None:
    """200,000 characters; quadratic work would take minutes."""
    begun = time.process_time()
    ALL.find(HOSTILE[name])
    assert time.process_time() - begun < 5


def test_every_kind_is_tested() -> None:
    assert {kind for kind, _ in FOUND} == set(KINDS)
