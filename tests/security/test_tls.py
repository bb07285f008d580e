"""TLS of a running server: versions, certificates of both sides, files that change while it runs."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from appliance.config.access import Certificate, Tls
from appliance.errors import ConfigError, NotAuthenticated
from appliance.security.certificates import Certificates
from appliance.security.tls import Tending, context_of
from tests.conftest import require
from tests.security.authority import Authority
from tests.serving import CHAT, Served

StartTls = Callable[..., Served]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def start_tls(tmp_path: Path, authority: Authority) -> Iterator[StartTls]:
    started: list[Served] = []

    def start(*settings: str, toml: str = "") -> Served:
        certificate, key = authority.issue("server", tmp_path)
        home = tmp_path / "home"
        home.mkdir()
        (home / "hearth.toml").write_text(toml)
        pair = (f"tls.certificate={certificate}", f"tls.key={key}")
        require([CHAT])
        served = Served(home, [CHAT], (*pair, "knowledge.enabled=false", *settings))
        started.append(served)
        return served

    yield start
    for served in started:
        served.end()


def client_of(served: Served, tmp_path: Path, authority: Authority, name: str = "") -> httpx.Client:
    context = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
    if name:
        context.load_cert_chain(*authority.issue(name, tmp_path))
    return httpx.Client(base_url=served.url, verify=context, trust_env=False, timeout=30)


def shake(served: Served, **settings: Any) -> str:
    """A handshake's version, with a client that checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    where = urlsplit(served.url)
    with (
        socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return secured.version() or ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused_and_plain_http_too(
    start_tls: StartTls, tmp_path: Path, authority: Authority
) -> None:
    served = start_tls()
    assert served.url.startswith("https://")
    assert shake(served) == "TLSv1.3"
    assert shake(served, maximum_version=ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    for old in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
        with pytest.raises(OSError):
            shake(served, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=old)
    with pytest.raises(httpx.TransportError):
        httpx.get(served.url.replace("https", "http") + "/version", trust_env=False)
    with client_of(served, tmp_path, authority) as client:
        assert client.get("/version").status_code == 200


def test_a_silent_handshake_is_left(start_tls: StartTls) -> None:
    served = start_tls("limits.receive_seconds=0.5")
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as connection:
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 5


def test_a_changed_certificate_is_served_without_a_restart(start_tls: StartTls, tmp_path: Path) -> None:
    served = start_tls()
    other = Authority("Another")
    (tmp_path / "new").mkdir()
    certificate, key = other.issue("server", tmp_path / "new")
    with client_of(served, tmp_path, other) as client, pytest.raises(httpx.ConnectError):
        client.get("/version")
    shutil.copy(key, tmp_path / "server.key")
    shutil.copy(certificate, tmp_path / "server.pem")

    def is_new() -> bool:
        try:
            with client_of(served, tmp_path, other) as client:
                return client.get("/version").status_code == 200
        except httpx.ConnectError:
            return False

    served.wait_until(is_new, 10)
    (tmp_path / "server.pem").write_text("no certificate")  # what does not fit leaves the old one in force
    served.wait_until(lambda: "stays as it was" in served.log, 10)
    assert is_new()


MUTUAL = """
[[access.certificates]]
name = "scraper"
subject = "CN=scraper,O=Plant 4"
role = "operator"

[[access.certificates]]
name = "kiosk"
subject = "CN=kiosk-*"
role = "reader"
"""


def test_a_client_certificate_is_a_credential(
    start_tls: StartTls, tmp_path: Path, authority: Authority
) -> None:
    served = start_tls(f"tls.client_ca={authority.write(tmp_path)}", toml=MUTUAL)
    with client_of(served, tmp_path, authority, "scraper") as scraper:
        told = scraper.get("/admin/v1/whoami").json()
        assert (told["id"], told["grant"]["role"]) == ("cert:scraper", "operator")
        assert told["credential"].startswith("cert:")
        assert scraper.get("/metrics").status_code == 200
        assert scraper.get("/admin/v1/keys").status_code == 403
        assert scraper.get("/metrics", headers={"authorization": "Bearer x"}).status_code == 401
    with client_of(served, tmp_path, authority, "stranger") as stranger:
        assert stranger.get("/v1/models").status_code == 401
    with client_of(served, tmp_path, authority) as nobody:
        assert nobody.get("/v1/models").status_code == 401
        assert nobody.get("/healthz").status_code == 200
    foreign = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
    (tmp_path / "foreign").mkdir()
    foreign.load_cert_chain(*Authority("Foreign").issue("scraper", tmp_path / "foreign"))
    with (
        httpx.Client(base_url=served.url, verify=foreign, trust_env=False) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get("/metrics")


def test_a_certificate_can_be_required(start_tls: StartTls, tmp_path: Path, authority: Authority) -> None:
    served = start_tls(f"tls.client_ca={authority.write(tmp_path)}", "tls.clients=required", toml=MUTUAL)
    with client_of(served, tmp_path, authority) as nobody, pytest.raises(httpx.TransportError):
        nobody.get("/healthz")
    with client_of(served, tmp_path, authority, "scraper") as scraper:
        assert scraper.get("/healthz").status_code == 200


# Without a server


def test_files_that_do_not_fit_are_named(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("a", tmp_path)
    _, other = authority.issue("b", tmp_path)
    locked = tmp_path / "locked.key"
    opened = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    )
    for settings, words in (
        (Tls(certificate=str(tmp_path / "none"), key=str(key)), "No such file"),
        (Tls(certificate=str(certificate), key=str(other)), "no pair"),
        (Tls(certificate=str(key), key=str(key)), "no pair"),
        (Tls(certificate=str(certificate), key=str(locked)), "needs a password"),
        (Tls(certificate=str(certificate), key=str(key), client_ca=str(key)), "client_ca"),
        (Tls(certificate=str(certificate), key=str(key), client_ca=str(tmp_path / "none")), "client_ca"),
    ):
        with pytest.raises(ConfigError, match=words):
            context_of(settings)


def test_tending_ends_and_ignores_files_beside(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("a", tmp_path)
    settings = Tls(certificate=str(certificate), key=str(key))

    async def run() -> None:
        tending = Tending(settings, context_of(settings))
        await tending.stop()  # before it began
        tending.start()
        await asyncio.sleep(0.3)
        (tmp_path / "beside").write_text("x")
        await asyncio.sleep(0.5)
        key.unlink()
        await asyncio.sleep(0.5)
        await tending.stop()
        with pytest.raises(ConfigError):
            tending.reload()

    asyncio.run(run())


def test_tending_takes_a_new_pair_and_keeps_the_old_one_beside_a_broken_file(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hearth")
    certificate, key = authority.issue("a", tmp_path)
    (tmp_path / "new").mkdir()
    new_certificate, new_key = authority.issue("a", tmp_path / "new")
    settings = Tls(certificate=str(certificate), key=str(key))

    async def told(words: str) -> None:
        async with asyncio.timeout(10):
            while words not in caplog.text:  # noqa: ASYNC110 – what is logged has no event
                await asyncio.sleep(0.02)

    async def run() -> None:
        tending = Tending(settings, context_of(settings))
        tending.start()
        await asyncio.sleep(0.3)
        certificate.write_text("no certificate")
        await told("the certificate stays as it was")
        caplog.clear()
        shutil.copy(new_key, key)
        shutil.copy(new_certificate, certificate)
        await told("the certificate was read again")
        await tending.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("clients", "mode"), [("required", ssl.CERT_REQUIRED), ("optional", ssl.CERT_OPTIONAL)]
)
def test_clients_are_asked_for_their_certificate(
    tmp_path: Path, authority: Authority, clients: str, mode: ssl.VerifyMode
) -> None:
    certificate, key = authority.issue("a", tmp_path)
    settings = Tls(
        certificate=str(certificate),
        key=str(key),
        client_ca=str(authority.write(tmp_path)),
        clients=clients,  # type: ignore[arg-type]
    )
    assert context_of(settings).verify_mode == mode
    assert context_of(msgspec.structs.replace(settings, client_ca="")).verify_mode == ssl.CERT_NONE


def test_certificates_by_fingerprint_and_subject(tmp_path: Path, authority: Authority) -> None:
    path, _ = authority.issue("scraper", tmp_path)
    certificate = load_pem_x509_certificate(path.read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    fingerprint = hashlib.sha256(der).hexdigest()
    colons = ":".join(fingerprint[n : n + 2] for n in range(0, 64, 2)).upper()
    for known in (
        Certificate(name="s", fingerprint=fingerprint),
        Certificate(name="s", fingerprint=colons),
        Certificate(name="s", subject="CN=scraper,*"),
    ):
        found = Certificates([Certificate(name="other", fingerprint="0" * 64), known])
        admitted = found.authenticate(der)
        assert admitted.principal.id == "cert:s"
        assert admitted.expires_at == certificate.not_valid_after_utc.timestamp()
        assert found.knows(admitted.principal)
    for ended in (b"", b"no certificate", der[:-5]):
        with pytest.raises(NotAuthenticated, match="cannot be read"):
            Certificates([Certificate(name="s", subject="*")]).authenticate(ended)
    with pytest.raises(NotAuthenticated, match="none of those"):
        Certificates([Certificate(name="s", subject="CN=other")]).authenticate(der)
    for odd in (Certificate(name="s"), Certificate(name="s", subject="*", fingerprint=fingerprint)):
        with pytest.raises(ConfigError, match="either a fingerprint or a subject"):
            Certificates([odd])
