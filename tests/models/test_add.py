"""Adding models from disk: what is inferred, what is assumed aloud, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.add import add
from models.errors import MalformedModel, ManifestError, NameTaken, UnknownModel, UnsupportedModel
from models.manifest import Encoding, Pooling
from models.progress import Advance, Event, Notice
from models.store import Store

Build = Callable[..., bytes]


def everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()} - {"lock"}


@pytest.fixture
def gguf(tmp_path: Path, chat_content: bytes) -> Path:
    path = tmp_path / "My Model (v2)_Q4__0.gguf"
    path.write_bytes(chat_content)
    return path


@pytest.fixture
def onnx(tmp_path: Path, build_onnx: Build, tokenizer_json: bytes) -> Path:
    directory = tmp_path / "Some-Encoder"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(build_onnx())
    (directory / "tokenizer.json").write_bytes(tokenizer_json)
    return directory


def test_a_gguf_becomes_a_chat_model(store: Store, gguf: Path) -> None:
    events: list[Event] = []
    installed = add(store, gguf, progress=events.append)
    manifest = installed.manifest
    assert (manifest.name, manifest.role, manifest.format) == ("my-model-v2-q4_0", "chat", "gguf")
    assert (manifest.licence, manifest.languages, manifest.context_length) == ("mit", ("en", "zh"), 64)
    assert manifest.description == "Handmade, Q4_1: added from a file."
    assert installed.origin == "file"
    assert store.path(manifest.name, "model.gguf").read_bytes() == gguf.read_bytes()
    assert any(isinstance(event, Advance) and event.stage == "copy" for event in events)
    assert not any(isinstance(event, Notice) for event in events)
    assert [verdict.state for verdict in store.verify()] == ["sound"]


def test_adding_twice_is_harmless_and_another_file_needs_another_name(
    store: Store, gguf: Path, build_gguf: Build
) -> None:
    add(store, gguf, "mine")
    add(store, gguf, "mine")
    add(store, gguf, "twin")
    other = gguf.with_name("other.gguf")
    other.write_bytes(build_gguf(version=2))
    with pytest.raises(NameTaken, match="'mine'"):
        add(store, other, "mine")
    assert [model.name for model in store.list()] == ["mine", "twin"]
    assert len(everything(store)) == 3


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "../a", ".a", "a..b", "a b", "x" * 97, "a\n"])
def test_a_bad_name_is_refused_with_advice(name: str, store: Store, gguf: Path) -> None:
    with pytest.raises(ManifestError, match="choose a name of a-z"):
        add(store, gguf, name)
    assert everything(store) == set()


def test_missing_template_is_told(store: Store, tmp_path: Path, build_gguf: Build, chat_keys) -> None:
    keys = {key: value for key, value in chat_keys.items() if key != "tokenizer.chat_template"}
    (tmp_path / "base.gguf").write_bytes(build_gguf(keys))
    events: list[Event] = []
    add(store, tmp_path / "base.gguf", progress=events.append)
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "it carries no chat template, so only plain completions are served"
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"general.architecture": (8, "nomic-bert-moe")}, "embedding model"),
        ({"llama.pooling_type": (4, 1)}, "embedding model"),
        ({"split.count": (2, 3)}, "one of 3 parts"),
        ({"general.type": (8, "adapter")}, "only `lora` is served"),
        ({"general.architecture": (8, "clip")}, "is of type clip"),
        ({"llama.context_length": (4, 0)}, "does not say llama.context_length"),
    ],
)
def test_what_is_no_chat_model_is_refused(
    keys, words: str, store: Store, tmp_path: Path, build_gguf: Build, chat_keys
) -> None:
    layouts = {2: 4}  # the builder writes u32 where the real key is u16
    keys = {key: (layouts.get(kind, kind), value) for key, (kind, value) in keys.items()}
    (tmp_path / "m.gguf").write_bytes(build_gguf(chat_keys | keys))
    with pytest.raises(UnsupportedModel, match=words):
        add(store, tmp_path / "m.gguf")
    assert everything(store) == set()


def test_a_vocabulary_alone_is_no_model(store: Store, tmp_path: Path, build_gguf: Build, chat_keys) -> None:
    (tmp_path / "vocab.gguf").write_bytes(build_gguf(chat_keys, ()))
    with pytest.raises(UnsupportedModel, match="holds no weights"):
        add(store, tmp_path / "vocab.gguf")


def test_what_is_not_there_or_no_model(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        add(store, tmp_path / "nothing.gguf")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnsupportedModel, match="neither a GGUF file nor a directory"):
        add(store, tmp_path / "notes.txt")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(MalformedModel, match="version 0"):
        add(store, tmp_path / "bad.gguf")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnsupportedModel, match=r"has no model\.onnx"):
        add(store, tmp_path / "folder")


def test_a_bare_onnx_directory_says_what_was_assumed(store: Store, onnx: Path) -> None:
    events: list[Event] = []
    manifest = add(store, onnx, progress=events.append).manifest
    assert (manifest.name, manifest.role, manifest.context_length) == ("some-encoder", "embed", 512)
    assert manifest.encoding == Encoding(512, 3, ("input_ids", "attention_mask"), "last_hidden_state")
    assert manifest.pooling == Pooling("mean", 8)
    told = "\n".join(event.text for event in events if isinstance(event, Notice))
    assert "512 tokens" in told
    assert "mean of all tokens" in told
    assert "normalised" in told
    assert sorted(file.path for file in manifest.files) == ["model.onnx", "tokenizer.json"]


def test_a_sentence_transformers_directory_is_understood(store: Store, onnx: Path) -> None:
    (onnx / "onnx").mkdir()
    (onnx / "model.onnx").rename(onnx / "onnx" / "model.onnx")
    (onnx / "1_Pooling").mkdir()
    for name, content in {
        "config.json": {"max_position_embeddings": 64, "hidden_size": 8, "pad_token_id": 7},
        "sentence_bert_config.json": {"max_seq_length": 32},
        "config_sentence_transformers.json": {"prompts": {"query": "q: ", "document": "d: "}},
        "modules.json": [{"type": "sentence_transformers.models.Transformer"}],
        "1_Pooling/config.json": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    }.items():
        (onnx / name).write_text(json.dumps(content))
    events: list[Event] = []
    manifest = add(store, onnx, "st", events.append).manifest
    assert manifest.context_length == 64
    assert manifest.encoding == Encoding(32, 7, ("input_ids", "attention_mask"), "last_hidden_state")
    assert manifest.pooling == Pooling("cls", 8, False, (), "q: ", "d: ")
    assert not any(isinstance(event, Notice) for event in events)


def test_one_logit_per_pair_makes_a_reranker(store: Store, onnx: Path, build_onnx: Build) -> None:
    (onnx / "model.onnx").write_bytes(build_onnx("rerank"))
    manifest = add(store, onnx).manifest
    assert (manifest.role, manifest.pooling) == ("rerank", None)
    assert manifest.encoding is not None
    assert manifest.encoding.output == "logits"


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("model.onnx", b"\x08\x08", MalformedModel, "0 graphs"),
        ("tokenizer.json", b"[1]", MalformedModel, "not a JSON object"),
        ("tokenizer.json", b"{}", MalformedModel, "has no `model`"),
        ("tokenizer.json", b"[" * 100_000, MalformedModel, "not a JSON object"),
        ("config.json", b"[" * 100_000, MalformedModel, "not JSON"),
        ("config.json", b"7", MalformedModel, "not a JSON object"),
        ("1_Pooling/config.json", b'{"pooling_mode_max_tokens": true}', UnsupportedModel, "max_tokens"),
    ],
)
def test_unsound_directories_are_refused(
    name: str, content: bytes, error: type[Exception], words: str, store: Store, onnx: Path
) -> None:
    (onnx / name).parent.mkdir(exist_ok=True)
    (onnx / name).write_bytes(content)
    with pytest.raises(error, match=words):
        add(store, onnx)
    assert everything(store) == set()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
def test_a_link_in_a_directory_is_refused(name: str, store: Store, onnx: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((onnx / name).read_bytes() if (onnx / name).exists() else b"{}")
    (onnx / name).unlink(missing_ok=True)
    (onnx / name).symlink_to(outside)
    with pytest.raises((UnsupportedModel, MalformedModel), match="link"):
        add(store, onnx)
    assert everything(store) == set()


def test_the_real_embedder_as_a_directory(store: Store, tmp_path: Path, real_model) -> None:
    directory = tmp_path / "minilm"
    directory.mkdir()
    for file in ("model.onnx", "tokenizer.json"):
        (directory / file).write_bytes(real_model("all-minilm-l6-v2", file).read_bytes())
    manifest = add(store, directory).manifest
    assert manifest.encoding is not None
    assert manifest.pooling is not None
    assert (manifest.role, manifest.pooling.dimensions, manifest.encoding.pad_id) == ("embed", 384, 0)
    assert manifest.encoding.inputs == ("input_ids", "attention_mask", "token_type_ids")
