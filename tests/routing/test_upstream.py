"""The HTTP client and the wire against a real server with every fault: text exact, failures typed, sockets
freed.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.records import Delta
from appliance.routing.failure import UpstreamFailure
from appliance.routing.registry import Model
from appliance.routing.upstream import Upstream, retry_after
from tests.routing.conftest import KEY, closers, platform, registry, request, routing, run
from tests.upstream.behaviour import CUTS, FAULTS_BEFORE_TEXT, Behaviour, make_text
from tests.upstream.service import Service

StartService = Callable[..., Service]

KINDS = {
    "reset on connect": "cut",
    "close on connect": "cut",
    "status 429": "rate_limited",
    "status 402": "over_quota",
    "status 401": "rejected_key",
    "status 404": "refused",
    "status 500": "server_error",
    "status 503 not json": "server_error",
    "redirect": "refused",
    "empty 200": "empty",
    "empty stream": "empty",
    "html 200": "garbage",
    "not http": "garbage",
    "garbage event": "garbage",
    "bad json event": "garbage",
    "bad shape event": "garbage",
    "bad chunk": "garbage",
    "error event": "server_error",
    "no head": "timeout",
    "stall before text": "stall",
    "stall": "stall",
    "close": "cut",
    "half close": "cut",
    "only done": "empty",
    "no done": "empty",
}


def anywhere(host: str, port: int) -> None:
    """No guard."""


class Client:
    """An upstream of one service, and what came out of it."""

    def __init__(self, service: Service, **fields: object) -> None:
        found = registry(routing(platform("cloud", service, key_env="TEST_KEY", **fields)))
        self.model: Model = found["cloud/big"]
        self.upstream = Upstream(found.platforms["cloud"], self.model.instances[0].endpoint, anywhere)
        self.deltas: list[Delta] = []

        closers.append(self.upstream.close)

    async def ask(self, partial: str = "", **fields: object) -> str:
        self.deltas = []
        stream = await self.upstream.open(request(**fields), self.model, id=1, partial=partial, seconds=30)
        try:
            while (deltas := await stream.read()) is not None:
                self.deltas += deltas
        finally:
            stream.close()
        self.usage = stream.usage
        return self.text

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(dribble=1),
        Behaviour(dribble=3, line_end="\r\n"),
        Behaviour(line_end="\r"),
        Behaviour(comments=3, between=0.001),
        Behaviour(is_whole=True),
        Behaviour(send_usage=False),
        Behaviour(send_finish=False),
        Behaviour(send_done=False),
        Behaviour(keep_alive=False),
    ],
    ids=repr,
)
def test_text_is_exact_however_it_comes(start_service: StartService, behaviour: Behaviour) -> None:
    service = start_service(behaviour, behaviour)
    client = Client(service)

    async def twice() -> list[str]:
        return [await client.ask(), await client.ask()]

    assert run(twice()) == [service.text] * 2
    if behaviour.send_usage:
        assert client.usage is not None
        assert client.usage.prompt_tokens == 7


@pytest.mark.parametrize("name", FAULTS_BEFORE_TEXT)
def test_every_fault_has_its_kind(start_service: StartService, name: str) -> None:
    client = Client(start_service(FAULTS_BEFORE_TEXT[name]))
    with pytest.raises(UpstreamFailure) as raised:
        run(client.ask())
    # A reset that comes early enough is met by the connecting itself.
    assert raised.value.kind in (KINDS[name], "connect" if "connect" in name else ""), raised.value
    assert client.text == ""
    assert KEY not in f"{raised.value} {raised.value.detail} {raised.value!r} {raised.value.args}"
    assert raised.value.retry_after == (1.0 if name == "status 429" else None)


@pytest.mark.parametrize("ending", CUTS)
def test_cut_gives_all_that_came_before_it(start_service: StartService, ending: str) -> None:
    service = start_service(Behaviour(cut_after=57, ending=ending))  # type: ignore[arg-type]
    client = Client(service)

    async def ask() -> None:
        stream = await client.upstream.open(request(), client.model, id=1, seconds=30)
        try:
            while (deltas := await stream.read()) is not None:
                client.deltas += deltas
        finally:
            stream.close()

    with pytest.raises(UpstreamFailure):
        run(ask())
    assert client.text == service.text[:57]


def test_connection_is_used_again_and_replaced_when_the_server_closed_it(start_service: StartService) -> None:
    service = start_service()
    client = Client(service)

    async def ask_often() -> None:
        for _ in range(5):
            assert await client.ask() == service.text
            await asyncio.sleep(0.02)
        assert service.connections == 1
        service.script(Behaviour(connect="close"))  # takes the request on the kept connection, and closes it
        assert await client.ask() == service.text

    run(ask_often())
    assert service.connections == 2


def test_left_answer_is_closed_at_once(start_service: StartService) -> None:
    service = start_service(Behaviour(between=0.02))
    client = Client(service)

    async def leave() -> float:
        stream = await client.upstream.open(request(), client.model, id=1, seconds=30)
        await stream.read()
        left_at = time.monotonic()
        stream.close()
        async with asyncio.timeout(5):
            while service.running:  # noqa: ASYNC110  the service is in another thread
                await asyncio.sleep(0.002)
        return time.monotonic() - left_at

    assert run(leave()) < 0.5
    assert service.requests[0].was_left


def test_request_says_what_the_client_gave_and_nothing_else(start_service: StartService) -> None:
    service = start_service()
    client = Client(service, type="openai")
    run(client.ask())
    seen = service.requests[0]
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {
        "model": "big",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Say something."}],
    }
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["user-agent"] == "hearth"


def test_partial_answer_is_continued_or_its_echo_dropped(start_service: StartService) -> None:
    for continues in ("prefix", "echo"):
        service = start_service(continues=continues)
        client = Client(service, model={"continuation": continues})
        assert run(client.ask(partial=service.text[:31])) == service.text[31:]
        assert service.requests[0].body["continue_final_message"] is True


def test_echo_that_differs_is_garbage(start_service: StartService) -> None:
    service = start_service(continues="echo")
    client = Client(service, model={"continuation": "echo"})
    service._script.clear()
    with pytest.raises(UpstreamFailure, match="does not go on"):
        run(_echo_of_another(client, service))


async def _echo_of_another(client: Client, service: Service) -> None:
    stream = await client.upstream.open(request(), client.model, id=1, seconds=30)
    stream._echo = "something that the service never said"
    try:
        while await stream.read() is not None:
            pass
    finally:
        stream.close()


def test_slow_reader_loses_nothing_and_bounds_what_is_unread(start_service: StartService) -> None:
    service = start_service(text=make_text(5, 150_000))
    client = Client(service)

    async def read_slowly() -> str:
        stream = await client.upstream.open(request(), client.model, id=1, seconds=30)
        text = ""
        await asyncio.sleep(0.5)  # longer than the silence allowed: it is ours, not the upstream's
        assert stream._connection._unread < 1024 * 1024
        while (deltas := await stream.read()) is not None:
            text += "".join(delta.text for delta in deltas)
        stream.close()
        return text

    assert run(read_slowly()) == service.text


def test_deadline_bounds_the_whole_answer(start_service: StartService) -> None:
    client = Client(start_service(Behaviour(between=0.05)))

    async def ask() -> None:
        stream = await client.upstream.open(request(), client.model, id=1, seconds=0.3)
        try:
            while await stream.read() is not None:
                pass
        finally:
            stream.close()

    with pytest.raises(UpstreamFailure, match=r"longer than 0\.3 s"):
        run(ask())


def test_environment_names_no_proxy(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    service = start_service()
    assert run(Client(service).ask()) == service.text


def test_proxy_of_the_settings_gets_a_tunnel(start_service: StartService) -> None:
    service = start_service()
    asked: list[bytes] = []

    async def through_proxy() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            there, back = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

        async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(4096):
                sink.write(piece)
            sink.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(service, proxy=f"http://127.0.0.1:{port}")
        text = await client.ask()
        client.upstream.close()
        server.close()
        return text

    assert run(through_proxy()) == service.text
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{service.port} HTTP/1.1\r\n".encode())
    assert KEY.encode() not in asked[0]


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scripted")])
    now = datetime.datetime.now(datetime.UTC)
    import ipaddress

    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "service.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_tls_takes_the_configured_authority_only(start_service: StartService, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    service = start_service(tls=context)
    assert run(Client(service, ca_file=str(certificate)).ask()) == service.text
    with pytest.raises(UpstreamFailure, match=r"connect: its certificate is not trusted: self"):
        run(Client(service).ask())
    assert len(service.requests) == 1


def test_nothing_listens(start_service: StartService) -> None:
    service = Service()
    client = Client(service)
    service._socket.close()
    with pytest.raises(UpstreamFailure, match="connect: ") as raised:
        run(client.ask())
    assert raised.value.is_transient


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after-ms": b"1500", b"retry-after": b"7"}, 1.5),
        ({b"retry-after": b"Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({b"retry-after": b"-3"}, None),
        ({b"retry-after": b"1e999"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"9" * 4000}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
