"""Manifests and packs decode strictly, and every refusal names file and key."""

import re

import msgspec
import pytest

from models.errors import ManifestError, UnknownModel
from models.manifest import Hub, Manifest, Registry
from models.pack import PACKS, Catalogue, Pack, catalogue, load_pack, parse_pack

PACK = """
name = "p"
[[models]]
name = "m"
role = "chat"
format = "gguf"
licence = "MIT"
context_length = 64
[[models.files]]
path = "model.gguf"
bytes = 10
sha256 = "{sha256}"
[[models.files.sources]]
kind = "hub"
url = "https://hub.example/m/model.gguf"
[[models.files.sources]]
kind = "registry"
[[models.files.sources.parts]]
package = "some-package"
version = "1.0"
member = "some_package/model.gguf"
bytes = 10
wheel_bytes = 20
""".replace("{sha256}", "0" * 64)


def test_a_pack_decodes() -> None:
    pack = parse_pack(PACK.encode(), "p/pack.toml")
    assert pack.bytes == 10
    assert [type(source) for source in pack.models[0].weights.sources] == [Hub, Registry]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('licence = "MIT"', 'license = "MIT"', "unknown field `license`"),
        ('licence = "MIT"', "", "missing required field `licence`"),
        ('role = "chat"', 'role = "oracle"', "'oracle'"),
        ('role = "chat"', 'role = "embed"', "chat models and adapters are gguf"),
        ("0" * 64, "0" * 63, "sha256"),
        ("0" * 64, "0" * 64 + "\\n", "sha256"),
        ("0" * 64, "../" + "0" * 61, "sha256"),
        ("0" * 64, "A" * 64, "sha256"),
        ('path = "model.gguf"', 'path = "../model.gguf"', r"files\[0\].path|files\[...\].path"),
        ('path = "model.gguf"', 'path = ".model.gguf"', "path"),
        ('path = "model.gguf"', 'path = "a/model.gguf"', "path"),
        ('path = "model.gguf"', 'path = "a\\\\model.gguf"', "path"),
        ('path = "model.gguf"', 'path = "model\\u0000.gguf"', "path"),
        ('path = "model.gguf"', 'path = "other.gguf"', "lack model.gguf"),
        ("context_length = 64", "context_length = -1", "context_length"),
        ("context_length = 64", 'context_length = "64"', "context_length"),
        ('name = "m"', 'name = "M/../x"', "name"),
        ("https://", "http://", "not an https URL"),
        ("https://", "https://user:pw@", "not an https URL"),
        ('kind = "hub"', 'kind = "torrent"', "torrent"),
        ('"some_package/model.gguf"', '"../model.gguf"', "member"),
        ('"some_package/model.gguf"', '"/etc/passwd"', "member"),
        ('"some_package/model.gguf"', '"a/../../b"', "member"),
        ('package = "some-package"', 'package = "--index-url=x"', "package"),
        ('version = "1.0"', 'version = "1.0 --pre"', "version"),
        ("[[models]]", "[[models]", "."),
    ],
)
def test_what_is_wrong_is_refused_naming_file_and_key(old: str, new: str, words: str) -> None:
    assert old in PACK
    with pytest.raises(ManifestError, match=words) as refusal:
        parse_pack(PACK.replace(old, new, 1).encode(), "p/pack.toml")
    assert str(refusal.value).startswith("p/pack.toml: ")


def test_a_manifest_survives_json(embedder: Manifest) -> None:
    assert msgspec.json.decode(msgspec.json.encode(embedder), type=Manifest) == embedder


def test_roles_need_their_facts(embedder: Manifest) -> None:
    for missing in ({"encoding": None}, {"pooling": None}, {"files": embedder.files[:1]}):
        with pytest.raises(ValueError, match="handmade-embed"):
            msgspec.structs.replace(embedder, **missing)


def test_a_file_is_asked_for_by_name(chat: Manifest) -> None:
    assert chat.file("model.gguf") is chat.weights
    with pytest.raises(ManifestError, match=r"no file 'model\.onnx'"):
        chat.file("model.onnx")


def test_the_packs_hold_what_is_promised() -> None:
    models = {name: [(model.role, model.name) for model in load_pack(name).models] for name in PACKS}
    assert models == {
        "tiny": [("chat", "smollm2-135m-instruct"), ("embed", "all-minilm-l6-v2")],
        "starter": [
            ("chat", "qwen2.5-coder-0.5b-instruct"),
            ("embed", "multilingual-e5-small"),
            ("rerank", "ms-marco-minilm-l-12-v2"),
        ],
        "extra": [("embed", "bge-small-en-v1.5")],
    }
    assert catalogue().get("ms-marco-minilm-l-12-v2").languages == ("en",)
    assert {"en", "zh"} <= set(catalogue().get("multilingual-e5-small").languages)
    bge = catalogue().get("bge-small-en-v1.5").pooling
    assert bge is not None
    assert bge.method == "cls"


def test_joined_parts_add_up() -> None:
    for model in catalogue().models():
        for file in model.files:
            assert file.sources, f"{model.name}/{file.path} has no source"
            for source in file.sources:
                if isinstance(source, Registry):
                    assert sum(part.bytes for part in source.parts) == file.bytes


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="tiny, starter, extra"):
        load_pack("huge")
    with pytest.raises(UnknownModel, match=re.escape("qwen2.5-coder-0.5b-instruct")):
        catalogue().get("gpt-5")


def test_a_catalogue_refuses_contradictions(chat: Manifest) -> None:
    other = msgspec.structs.replace(chat, licence="GPL")
    with pytest.raises(ManifestError, match="handmade differs"):
        Catalogue((Pack("a", (chat,)), Pack("b", (other,))))
    with pytest.raises(ManifestError, match=r"fallbacks.embed: no embed model 'handmade'"):
        Catalogue((Pack("a", (chat,), fallbacks={"embed": "handmade"}),))
    with pytest.raises(ValueError, match="listed twice"):
        Pack("a", (chat, chat))
