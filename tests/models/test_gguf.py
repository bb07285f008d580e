"""GGUF preflight: facts of sound files, a clear refusal of every other, and never anything else."""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import MalformedModel
from models.gguf import is_gguf, read_gguf

Build = Callable[..., bytes]


@pytest.fixture
def read(tmp_path: Path):
    def _read(content: bytes):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return read_gguf(path)

    return _read


def test_facts_of_a_sound_file(read, build_gguf: Build) -> None:
    content = build_gguf()
    facts = read(content)
    assert (facts.version, facts.architecture, facts.name) == (3, "llama", "Handmade")
    assert (facts.licence, facts.languages) == ("mit", ("en", "zh"))
    assert (facts.context_length, facts.embedding_length, facts.block_count) == (64, 32, 1)
    assert (facts.head_count, facts.head_count_kv, facts.key_length, facts.value_length) == (4, 2, 8, 8)
    assert (facts.vocab_size, facts.eos_id, facts.bos_id, facts.add_bos) == (1_500, 2, None, True)
    assert (facts.quantization, facts.chat_template) == ("Q4_1", "{{ messages }}")
    assert (facts.parameter_count, facts.tensor_count, facts.tensor_bytes) == (96 + 5, 2, 54 + 20)
    assert facts.data_offset + 64 + 20 == facts.file_bytes <= len(content)


def test_version_2_and_another_alignment(read, build_gguf: Build, chat_keys) -> None:
    assert read(build_gguf(version=2)).version == 2
    keys = chat_keys | {"general.alignment": (4, 256)}
    assert read(build_gguf(keys, alignment=256)).data_offset % 256 == 0


def test_reads_a_range_inside_a_larger_file(tmp_path: Path, build_gguf: Build) -> None:
    content = build_gguf()
    path = tmp_path / "executable"
    path.write_bytes(b"x" * 4_096 + content + b"y" * 99)
    assert read_gguf(path, 4_096, len(content)).tensor_count == 2
    with pytest.raises(MalformedModel, match="its tensors reach to"):
        read_gguf(path, 4_096, len(content) - 64)
    with pytest.raises(MalformedModel, match="too few for the range"):
        read_gguf(path, 4_096, len(content) + 100)


def test_is_gguf_looks_at_the_magic(tmp_path: Path, build_gguf: Build) -> None:
    (tmp_path / "a").write_bytes(build_gguf())
    (tmp_path / "b").write_bytes(b"GG")
    assert is_gguf(tmp_path / "a")
    assert not is_gguf(tmp_path / "b")
    with pytest.raises(MalformedModel, match="not a regular file"):
        is_gguf(tmp_path)


def test_quantization_without_a_file_type_is_the_commonest_tensor_type(
    read, build_gguf: Build, chat_keys
) -> None:
    keys = {key: value for key, value in chat_keys.items() if key != "general.file_type"}
    assert read(build_gguf(keys)).quantization == "Q4_0"


MALFORMED = {
    "empty": (lambda build, keys: b"", "ends at byte 0"),
    "magic": (lambda build, keys: b"GGML" + build()[4:], "begin with GGUF"),
    "version": (lambda build, keys: build(version=4), "version 4"),
    "version 1": (lambda build, keys: build(version=1), "version 1"),
    "big-endian": (lambda build, keys: build(version=3 << 24), "big-endian"),
    "tensor count": (lambda build, keys: build(counts=(1 << 63, len(keys))), "more than it can hold"),
    "key count": (lambda build, keys: build(counts=(2, (1 << 64) - 1)), "more than it can hold"),
    "key length": (
        lambda build, keys: build({}, (), extra=struct.pack("<QQQ", 1 << 40, 0, 0), counts=(0, 1)),
        "key of 1099511627776",
    ),
    "string length": (
        lambda build, keys: build(
            keys, (), extra=_key("a", 8) + struct.pack("<Q", 1 << 62), counts=(0, len(keys) + 1)
        ),
        "a of 4611686018427387904 bytes",
    ),
    "not UTF-8": (lambda build, keys: build(keys | {"general.name": (8, b"\xff\xfe")}), "not UTF-8"),
    "value type": (
        lambda build, keys: build(keys, (), extra=_key("a", 13) + bytes(8), counts=(0, len(keys) + 1)),
        "unknown type 13",
    ),
    "nested array": (
        lambda build, keys: build(
            keys, (), extra=_key("a", 9) + struct.pack("<IQ", 9, 1) + bytes(20), counts=(0, len(keys) + 1)
        ),
        "array of arrays",
    ),
    "array type": (
        lambda build, keys: build(
            keys, (), extra=_key("a", 9) + struct.pack("<IQ", 77, 1) + bytes(20), counts=(0, len(keys) + 1)
        ),
        "unknown type 77",
    ),
    "array length": (
        lambda build, keys: build(
            keys,
            (),
            extra=_key("a", 9) + struct.pack("<IQ", 10, 1 << 61) + bytes(20),
            counts=(0, len(keys) + 1),
        ),
        "more than it can hold",
    ),
    "key twice": (
        lambda build, keys: build(keys, extra=_key("general.name", 0) + b"\1", counts=(2, len(keys) + 1)),
        "twice",
    ),
    "tensor twice": (lambda build, keys: build(keys, [("a", 0, (8,)), ("a", 0, (8,))]), "twice"),
    "no architecture": (
        lambda build, keys: build({k: v for k, v in keys.items() if k != "general.architecture"}),
        "general.architecture is missing",
    ),
    "alignment 0": (lambda build, keys: build(keys | {"general.alignment": (4, 0)}), "power of two"),
    "alignment 48": (lambda build, keys: build(keys | {"general.alignment": (4, 48)}), "power of two"),
    "alignment text": (lambda build, keys: build(keys | {"general.alignment": (8, "32")}), "power of two"),
    "alignment huge": (lambda build, keys: build(keys | {"general.alignment": (4, 1 << 30)}), "power of two"),
    "no dimensions": (lambda build, keys: build(keys, [("a", 0, ())]), "0 dimensions"),
    "five dimensions": (lambda build, keys: build(keys, [("a", 0, (1, 1, 1, 1, 1))]), "5 dimensions"),
    "dimension 0": (lambda build, keys: build(keys, [("a", 0, (8, 0))]), "impossible shape"),
    "overflowing shape": (
        lambda build, keys: build(keys, [("a", 0, (1 << 33, 1 << 33))]),
        "impossible shape",
    ),
    "tensor type": (lambda build, keys: build(keys, [("a", 99, (32,))]), "unknown type 99"),
    "removed tensor type": (lambda build, keys: build(keys, [("a", 4, (32,))]), "unknown type 4"),
    "ragged rows": (lambda build, keys: build(keys, [("a", 2, (33,))]), "multiple of 32"),
    "tensor name": (lambda build, keys: build(keys, [("a" * 64, 0, (8,))]), "64 bytes"),
    "offset past the end": (lambda build, keys: build(offsets=(1 << 40, 64)), "at offset"),
    "overlapping offset": (lambda build, keys: build(offsets=(0, 0)), "at offset 0, not 64"),
    "cut data": (lambda build, keys: build()[:-32], "its tensors reach to"),
    "negative count": (
        lambda build, keys: build(keys | {"llama.context_length": (5, -1)}),
        "context_length is outside",
    ),
    "huge count": (
        lambda build, keys: build(keys | {"llama.block_count": (10, 1 << 40)}),
        "block_count is outside",
    ),
    "float count": (lambda build, keys: build(keys | {"llama.block_count": (6, 1.5)}), "not a whole number"),
    "text count": (lambda build, keys: build(keys | {"llama.block_count": (8, "1")}), "not a whole number"),
    "number as text": (
        lambda build, keys: build(keys | {"general.name": (4, 1)}),
        "general.name is not a string",
    ),
}


def _key(name: str, kind: int) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind)


@pytest.mark.parametrize("case", MALFORMED)
def test_refuses_and_says_what_is_wrong(case: str, read, build_gguf: Build, chat_keys) -> None:
    make, words = MALFORMED[case]
    with pytest.raises(MalformedModel, match=words) as refusal:
        read(make(build_gguf, chat_keys))
    assert refusal.value.file == "model.gguf"


def test_every_truncation_is_refused(read, build_gguf: Build, chat_keys) -> None:
    keys = {
        key: value
        for key, value in chat_keys.items()
        if key not in ("tokenizer.ggml.tokens", "tokenizer.ggml.scores")
    }
    content = build_gguf(keys)
    for size in range(len(content) - 12):  # the last 12 bytes are padding after the last tensor
        with pytest.raises(MalformedModel):
            read(content[:size])


@settings(max_examples=300, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutations_are_read_or_refused_quickly(data: st.DataObject, read, build_gguf: Build) -> None:
    content = bytearray(build_gguf())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 700))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(patch)] = patch
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        facts = read(bytes(content[:cut]))
    except MalformedModel:
        return
    assert facts.file_bytes <= cut


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2-135m-instruct", ("llama", 8_192, 30, 49_152, "Q4_1", 134_515_008)),
        ("qwen2.5-coder-0.5b-instruct", ("qwen2", 32_768, 24, 151_936, "Q4_K_M", 630_167_424)),
    ],
)
def test_real_models(name: str, expected: tuple[object, ...], real_model) -> None:
    path = real_model(name, "model.gguf")
    began = time.perf_counter()
    facts = read_gguf(path)
    assert time.perf_counter() - began < 1.0  # 0.08 s on an idle core; vocabularies are not materialised
    found = (
        facts.architecture,
        facts.context_length,
        facts.block_count,
        facts.vocab_size,
        facts.quantization,
    )
    assert (*found, facts.parameter_count) == expected
    assert facts.chat_template is not None
    assert facts.file_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"llama.block_count": (4, 0)}, "block_count is 0"),
        ({"llama.block_count": (4, 513)}, "block_count is 513"),
        ({"llama.expert_count": (4, 8)}, "expert_used_count is 0 of 8"),
        ({"llama.expert_used_count": (4, 2)}, "expert_used_count is 2 of 0"),
        ({"llama.expert_count": (4, 4096), "llama.expert_used_count": (4, 2)}, "expert_count is 4096"),
        ({"llama.nextn_predict_layers": (4, 2)}, "nextn_predict_layers"),
        ({"llama.attention.layer_norm_rms_epsilon": (6, -1.0)}, "layer_norm_rms_epsilon"),
        ({"llama.attention.layer_norm_rms_epsilon": (6, float("nan"))}, "layer_norm_rms_epsilon"),
        ({"tokenizer.ggml.tokens": (9, (8, ["a", "b", "a"]))}, "one text twice"),
        ({"tokenizer.ggml.tokens": (9, (8, [f"t{n % 1999}" for n in range(2000)]))}, "one text twice"),
    ],
)
def test_what_llama_cpp_would_die_of_is_refused(
    tmp_path: Path, build_gguf: Build, chat_keys: dict[str, Any], keys: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(build_gguf(chat_keys | keys))
    with pytest.raises(MalformedModel, match=problem):
        read_gguf(path)


def test_experts_and_empty_tokens_as_real_models_have_them_pass(
    tmp_path: Path, build_gguf: Build, chat_keys: dict[str, Any]
) -> None:
    path = tmp_path / "m.gguf"
    experts = {"llama.expert_count": (4, 8), "llama.expert_used_count": (4, 2)}
    for tokens in (["a", "", "", "b"], ["", *(f"t{n}" for n in range(2000)), ""]):
        path.write_bytes(build_gguf(chat_keys | experts | {"tokenizer.ggml.tokens": (9, (8, tokens))}))
        assert read_gguf(path).vocab_size == len(tokens)
