"""One door for every credential: which counts, when one is needed, what a change of settings ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from msgspec.structs import replace

from appliance.config.access import Access as Settings
from appliance.config.access import Certificate
from appliance.errors import NotAuthenticated
from appliance.principal import LOCAL, Grant, Principal
from appliance.security import access as room
from appliance.security.access import Access
from tests.security.authority import Authority
from tests.security.test_tokens import Signer

Open = Callable[..., Access]


@pytest.fixture
def open_access(tmp_path: Path) -> Iterator[Open]:
    opened: list[Access] = []

    def make(settings: Settings | None = None, **options: Any) -> Access:
        found = Access(tmp_path / f"access-{len(opened)}", settings or Settings(), **options)
        opened.append(found)
        return found

    yield make
    for each in opened:
        each.keyring.close()


def test_a_credential_is_needed_as_soon_as_there_is_one(open_access: Open, tmp_path: Path) -> None:
    access = open_access()
    assert not access.needs_credential
    assert access.authenticate("anything").principal is LOCAL
    access.keyring.create("boss", Grant(role="admin"))
    assert access.needs_credential
    issuer = Signer("EdDSA", tmp_path).issuer
    for settings, options in (
        (Settings(), {"is_open": True}),
        (Settings(required=True), {}),
        (Settings(issuers=(issuer,)), {}),
        (Settings(certificates=(Certificate(name="a", subject="*"),)), {}),
    ):
        other = open_access(settings, **options)
        assert other.needs_credential
        assert other.has_credentials is bool(settings.issuers or settings.certificates)
        with pytest.raises(NotAuthenticated) as refused:
            other.authenticate(None)
        assert refused.value.detail_code == "missing_api_key"


def test_what_a_request_shows_counts_before_the_certificate(open_access: Open, tmp_path: Path) -> None:
    signer = Signer("EdDSA", tmp_path)
    path, _ = Authority().issue("scraper", tmp_path)
    der = load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    settings = Settings(issuers=(signer.issuer,), certificates=(Certificate(name="s", subject="*"),))
    access = open_access(settings)
    _, secret = access.keyring.create("boss", Grant(role="admin"))
    assert access.authenticate(secret, der).principal.name == "boss"
    assert access.authenticate(signer.token(), der).principal.name == "jwt:ada"
    assert access.authenticate(None, der).principal.name == "cert:s"
    with pytest.raises(NotAuthenticated):
        access.authenticate("wrong", der)


def test_work_goes_on_for_those_who_still_may(open_access: Open, tmp_path: Path) -> None:
    signer = Signer("EdDSA", tmp_path)
    access = open_access(Settings(issuers=(signer.issuer,)))
    access.keyring.create("boss", Grant(role="admin"))
    key, secret = access.keyring.create("worker", Grant())
    worker = access.authenticate(secret).principal
    ada = access.authenticate(signer.token()).principal
    assert access.still(worker) == worker
    assert access.still(ada) == ada
    assert access.still(LOCAL) is LOCAL
    access.keyring.update(key.id, grant=Grant(role="reader"))
    assert access.still(worker).role == "reader"
    access.keyring.revoke(key.id)
    access.reload(access.prepared(Settings()))
    for ended in (worker, ada, Principal("cert:gone", "cert:gone", "cert:abc")):
        with pytest.raises(NotAuthenticated):
            access.still(ended)


def test_changes_end_what_runs_with_them(open_access: Open, tmp_path: Path) -> None:
    signer = Signer("EdDSA", tmp_path)
    settings = Settings(issuers=(signer.issuer,))
    access = open_access(settings)
    told: list[str] = []

    async def run() -> None:
        await access.create("boss", Grant(role="admin"))
        key, _ = await access.create("worker", Grant())
        with access.running.hold(key.id, told.append):
            await access.update("worker", name="hand")
            assert told == []
            await access.rotate(key.id, 60)
            assert told == []
            await access.update(key.id, grant=Grant(role="reader"))
        with access.running.hold(key.id, told.append):
            await access.rotate(key.id, 0)
        with access.running.hold(key.id, told.append):
            await access.revoke(key.id)
        assert ["changed" in told[0], "replaced" in told[1], "revoked" in told[2]] == [True] * 3
        with access.running.hold("jwt:x", told.append), access.running.hold(key.id, told.append):
            access.reload(access.prepared(replace(settings, hosts=("a.lan",))))
            assert len(told) == 3
            access.names.check_host("a.lan", None)
            access.reload(access.prepared(Settings()))
        assert told[3:] == ["the settings of access changed"]

    asyncio.run(run())


def test_uses_are_saved_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SAVE_SECONDS", 0.01)

    async def run() -> None:
        access = Access(tmp_path / "a", Settings())
        access.start()
        _, secret = await access.create("boss", Grant(role="admin"))
        access.authenticate(secret)
        async with asyncio.timeout(10):
            while access.keyring._uses:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await access.stop()
        other = Access(tmp_path / "b", Settings())
        await other.stop()  # never started

    asyncio.run(run())


def test_scopes_of_a_principal() -> None:
    grant = Grant(models=("a*",), bases=("manuals", "vs_*"), tools=(), routes=("/v1/*", "GET /metrics"))
    principal = Principal("x", "x", "key_x", grant)
    assert principal.may_use_model("ada")
    assert not principal.may_use_model("bob")
    assert principal.may_use_base("vs_1", "other")
    assert principal.may_use_base("id", "manuals")
    assert not principal.may_use_base("id", "other")
    assert not principal.may_use_tool("file_search")
    assert not LOCAL.may_use_tool("anything")  # a tool is used where it was said
    assert Principal("x", grant=Grant(tools=("mcp_*",))).may_use_tool("mcp_files")
    assert principal.may_call("POST", "/v1/files")
    assert principal.may_call("GET", "/metrics")
    assert not principal.may_call("POST", "/metrics")
    assert principal.has_role("user")
    assert not principal.has_role("operator")
