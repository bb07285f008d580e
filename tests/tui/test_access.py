"""Keys as an operator handles them, on a real server: the first, one with limits, another secret, the end."""

from __future__ import annotations

import httpx
import pytest

from appliance.errors import InvalidValue
from appliance.principal import Grant, Rates
from tests.tiny_server import StartTiny
from tests.tui.operating import WIDE, operated, operating
from tui import grants

SECRET = "hearth_"


def status_with(url: str, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).status_code


@operated
async def test_keys_are_made_shown_once_changed_replaced_and_revoked(start_tiny: StartTiny) -> None:
    tiny = start_tiny(models=("ada",))
    async with operating(tiny.url, WIDE) as operator:
        await operator.sees("● ready")
        await operator.press("6", "n")
        await operator.sees("The first key is an admin's")
        await operator.type("boss")
        await operator.press("enter")
        await operator.sees("The key boss", "It is shown this once")
        await operator.press("c")
        admin = operator.app.clipboard
        assert admin in operator.text
        assert admin.startswith(SECRET)
        await operator.press("escape")
        await operator.sees("you: boss, admin", "● active")  # the window goes on with it
        assert status_with(tiny.url, "") == 401

        await operator.press("n")
        await operator.sees("A new key")
        await operator.type("app")
        await operator.press(*["tab"] * 6)
        await operator.type("many")
        await operator.press("enter")
        await operator.sees("many is no whole number")
        await operator.press(*["backspace"] * 4)
        await operator.type("60")
        await operator.press("enter")
        await operator.sees("The key app")
        await operator.press("c")
        user = operator.app.clipboard
        await operator.press("escape", "down")
        await operator.sees("What app allows", "60 requests a minute")
        assert status_with(tiny.url, user) == 200

        await operator.press("r")
        await operator.sees("A new secret for app")
        await operator.press("ctrl+s")
        await operator.sees("The key app")
        await operator.press("c")
        assert operator.app.clipboard not in (admin, user)
        await operator.press("escape")
        assert status_with(tiny.url, user) == 401

        await operator.press("x")
        await operator.sees("Revoke the key app?", "It ends for good")
        await operator.press("escape")
        await operator.sees_no("Revoke the key app?")
        await operator.press("x", "tab", "enter")
        await operator.sees("✗ revoked")


@operated
async def test_a_server_that_wants_a_key_is_given_one(start_tiny: StartTiny) -> None:
    tiny = start_tiny(models=("ada",))
    made = tiny.http.post("/admin/v1/keys", json={"name": "boss", "grant": {"role": "admin"}}).json()
    async with operating(tiny.url, WIDE) as operator:
        await operator.sees("This server wants a key")
        await operator.type(made["secret"])
        await operator.press("enter", "6")
        await operator.sees("you: boss, admin")


VALUES = {
    "name": "app", "role": "user", "models": "smol*, gpt-4", "bases": "", "routes": "-", "tools": "",
    "requests_per_minute": "60", "tokens_per_minute": "1,000", "concurrent": "", "tiers": "default,flex",
    "expires": "",
}  # fmt: skip


def test_a_form_is_a_grant() -> None:
    assert grants.grant_of(VALUES) == Grant(
        role="user",
        models=("smol*", "gpt-4"),
        routes=(),
        rates=Rates(requests_per_minute=60, tokens_per_minute=1000),
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [("concurrent", "x"), ("expires", "tomorrow"), ("expires", "2001-01-01"), ("name", "")],
)
def test_a_wrong_line_is_named(line: str, text: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        grants.check(VALUES | {line: text})
    assert raised.value.param == line


@pytest.mark.parametrize("scope", [None, (), ("a",), ("a", "b*")])
def test_a_scope_is_written_as_it_is_read(scope: tuple[str, ...] | None) -> None:
    assert grants.patterns(grants.written(scope)) == scope


def test_an_expiry_is_a_stretch_or_a_day() -> None:
    assert grants.expiry("", 1000.0) is None
    assert grants.expiry("2d", 1000.0) == 1000.0 + 2 * 86_400
    assert grants.expiry("12h", 1000.0) == 1000.0 + 12 * 3600
