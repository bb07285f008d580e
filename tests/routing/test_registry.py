"""The registry: names that mean one thing, keys that show nowhere, patterns and discovery within their
bounds.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import pytest

from appliance.config.routing import Routing
from appliance.errors import ConfigError, InvalidValue, ModelNotFound
from appliance.routing.registry import Model, build_registry
from appliance.routing.secret import read_key

KEY = "sk-0123456789-very-secret"
LOCAL = Model(platform="local", name="small", public_name="small")
CLOUD = {
    "name": "cloud",
    "api_base_url": "https://api.example.test/v1/",
    "key_env": "CLOUD_KEY",
    "models": [{"name": "big", "quality": 90}, {"name": "e", "public_name": "embedder", "role": "embed"}],
}


def routing(**fields: object) -> Routing:
    return msgspec.convert({"mode": "hybrid", "platforms": [CLOUD], **fields}, Routing)


def build(**fields: object):  # type: ignore[no-untyped-def]
    return build_registry(routing(**fields), [LOCAL], {"CLOUD_KEY": KEY})


def test_key_shows_nowhere() -> None:
    registry = build()
    platform = registry.platforms["cloud"]
    assert platform.key is not None
    assert platform.key.header() == f"authorization: Bearer {KEY}\r\n".encode()
    assert KEY not in f"{platform!r} {registry.models!r} {platform.key} {vars(registry)}"
    assert platform.key.hidden_in(f"bad key {KEY}!") == "bad key …!"
    with pytest.raises(TypeError):
        pickle.dumps(platform.key)
    with pytest.raises(TypeError):
        msgspec.json.encode(platform)


@pytest.mark.parametrize("content", [b"", b"a b", b"line\nbreak", b"k\xc3\xb6y", b"x" * 9000])
def test_bad_key_file_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_key("", str(file), {})
    assert str(file) in raised.value.message
    assert not content or content.decode("latin-1") not in raised.value.message


def test_key_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    found = read_key("", str(tmp_path / "key"), {})
    assert found is not None
    assert found.header().endswith(KEY.encode() + b"\r\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key_env": "ELSEWHERE"}, "ELSEWHERE"),
        ({"key_file": "/k"}, "key_env and key_file"),
        ({"api_base_url": "http://api.example.test"}, "unencrypted"),
        ({"api_base_url": "https://api.example.test:0/v1"}, "malformed"),
        ({"name": "local"}, "taken"),
        ({"models": [{"name": "small"}]}, "public name 'small'"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "public name 'a'"),
    ],
)
def test_bad_platform_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(platforms=[CLOUD | change])


@pytest.mark.parametrize("url", ["ftp://h", "https://u:p@h/", "https://h?q=1", "https:///v1", "https://h h"])
def test_malformed_address_is_no_setting(url: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        routing(platforms=[CLOUD | {"api_base_url": url}])


def test_plain_http_needs_no_leave_without_a_key_or_on_loopback() -> None:
    keyless = CLOUD | {"api_base_url": "http://gpu.lan:9997/v1", "key_env": ""}
    here = CLOUD | {"name": "here", "api_base_url": "http://[::1]:1234", "models": []}
    registry = build(platforms=[keyless, here])
    assert registry.platforms["cloud"].endpoint.url == "http://gpu.lan:9997/v1"
    assert registry.platforms["here"].endpoint.authority == "[::1]:1234"


def test_names_resolve_in_their_order() -> None:
    registry = build(aliases={"smart": ["big", "small"], "gpt-*": ["cloud/*"], "big-*": ["big"]})

    def ids(name: str, role: str = "chat") -> list[str]:
        return [model.id for model in registry.resolve(name, role)]  # type: ignore[arg-type]

    assert ids("big") == ids("cloud/big") == ids("big-2") == ["cloud/big"]
    assert ids("smart") == ["cloud/big", "local/small"]
    assert ids("gpt-4o-mini") == ["cloud/big"]
    assert ids("gpt-embedding", "embed") == ["cloud/e"]
    assert ids("auto") == ["local/small", "cloud/big"]
    assert registry.is_by_name("big")
    assert not registry.is_by_name("smart")
    with pytest.raises(InvalidValue, match="embedder"):
        registry.resolve("small", "embed")
    with pytest.raises(ModelNotFound, match="there are: small, big, embedder, smart"):
        registry.resolve("nothing", "chat")


@pytest.mark.parametrize("aliases", [{"small": ["big"]}, {"x": ["nowhere"]}])
def test_alias_that_shadows_or_misses_is_refused(aliases: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError, match=r"aliases\."):
        build(aliases=aliases)


def test_offline_knows_no_platform_and_reads_no_key() -> None:
    offline = routing(mode="offline", aliases={"smart": ["big"], "mine": ["small"]})
    registry = build_registry(offline, [LOCAL], {})
    assert registry.platforms == {}
    assert [model.id for model in registry.resolve("mine", "chat")] == ["local/small"]
    with pytest.raises(ModelNotFound):
        registry.resolve("smart", "chat")


def test_discovered_models_are_bounded_and_take_no_name() -> None:
    registry = build(
        platforms=[CLOUD | {"discover": True, "discover_only": ["q*", "small", "big"], "discover_limit": 2}]
    )
    found = registry.with_discovered("cloud", ["big", "small", "x", "qwen", "qwen", "q2"])
    assert [m.public_name for m in found.models if m.is_discovered] == ["cloud/small", "cloud/qwen"]
    assert [m.id for m in found.resolve("small", "chat")] == ["local/small"]
    assert [m.id for m in found.resolve("cloud/qwen", "chat")] == ["cloud/qwen"]
    again = found.with_discovered("cloud", ["q3"])
    assert [m.id for m in again.models if m.is_discovered] == ["cloud/q3"]
