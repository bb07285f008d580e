"""Which names and pages are this server's, by tables."""

from __future__ import annotations

import pytest

from appliance.security.names import Misdirected, Names, host_name

NAMES = Names(("hearth.example.org", "*.lan"), ("https://chat.example.org",))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", None),
        ("127.0.0.1:8080", None),
        ("[::1]:1", None),
        ("192.168.1.5", "192.168.1.5"),
        ("[fe80::1]", "fe80::1%eth0"),
        ("HEARTH.example.org.", "10.0.0.1"),
        ("a.b.lan:80", None),
    ],
)
def test_own_names(host: str, address: str | None) -> None:
    NAMES.check_host(host, address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("evil.example", "127.0.0.1"),
        ("192.168.1.6", "192.168.1.5"),
        ("192.168.1.5", None),
        ("lan", None),
        ("", None),
        ("a b", None),
        ("localhost/", None),
        ("[::1", None),
        ("localhost:port", None),
        ("lo\u0131calhost", None),
    ],
)
def test_foreign_names(host: str, address: str | None) -> None:
    with pytest.raises(Misdirected) as refused:
        NAMES.check_host(host, address)
    assert refused.value.status == 403


def test_pages() -> None:
    assert NAMES.check_origin("https://chat.example.org", "http", "localhost") is True
    assert NAMES.check_origin("http://localhost:8080", "http", "localhost:8080") is False
    for origin in ("http://chat.example.org", "https://localhost:8080", "null", "", "https://evil"):
        with pytest.raises(Misdirected) as refused:
            NAMES.check_origin(origin, "http", "localhost:8080")
        assert refused.value.detail_code == "origin_not_allowed"


def test_a_name_is_taken_out_of_a_header() -> None:
    assert host_name("Example.ORG:80") == "example.org"
    assert host_name("[::1]:80") == "::1"
    assert host_name(":80") == ""
