from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.encoders.embed import Embedder
from appliance.encoders.rerank import Reranker
from appliance.encoders.session import Session
from appliance.errors import InternalError, SetupError


def feeds(ids: list[int]) -> dict[str, np.ndarray]:
    tokens = np.array([ids], np.int64)
    return {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "token_type_ids": np.zeros_like(tokens),
    }


def test_a_model_inside_a_larger_file_gives_the_same_output(minilm_model, tmp_path):
    content = Path(minilm_model.weights).read_bytes()
    carrier = tmp_path / "carrier"
    carrier.write_bytes(b"x" * 12_345 + content + b"y" * 100)
    inside = Session(str(carrier), offset=12_345, size=len(content), threads=1)
    alone = Session(minilm_model.weights, threads=1)
    assert set(alone.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert alone.outputs == {"last_hidden_state": (None, None, 384)}
    outputs = [session.run(feeds([101, 7592, 102]), "last_hidden_state") for session in (inside, alone)]
    np.testing.assert_array_equal(*outputs)


def test_loading_leaves_no_descriptor_open(minilm_model):
    Session(minilm_model.weights, threads=1)
    before = set(os.listdir("/proc/self/fd"))
    session = Session(minilm_model.weights, threads=1)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    del session


def test_the_library_s_own_failure_becomes_ours(minilm):
    session = minilm._loaded._session
    with pytest.raises(InternalError, match="99999"):
        session.run(feeds([99_999]), "last_hidden_state")


@pytest.mark.parametrize(
    ("content", "offset", "size", "complaint"),
    [
        (None, 0, 0, "cannot be read"),
        (b"not a model at all", 0, 0, "not a model that can be loaded"),
        (b"", 0, 0, "not in this file"),
        (b"x" * 100, 50, 51, "not in this file of 100 bytes"),
        (b"x" * 100, -1, 10, "not in this file"),
        (b"x" * 100, 200, 0, "not in this file"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path, content, offset, size, complaint):
    path = tmp_path / "odd.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=complaint) as refusal:
        Session(str(path), offset=offset, size=size)
    assert "odd.onnx" in str(refusal.value)


@pytest.mark.parametrize("location", ["weights.bin", "{descriptor}", "../{folder}/weights.bin", "{absolute}"])
def test_a_model_that_keeps_tensors_in_other_files_is_refused(tmp_path, location):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    with weights.open("rb") as neighbour:
        named = location.format(descriptor=neighbour.fileno(), folder=tmp_path.name, absolute=weights)
        (tmp_path / "model.onnx").write_bytes(model_with_external_data(named))
        with pytest.raises(SetupError, match="External data"):
            Session(str(tmp_path / "model.onnx"))


def test_importing_the_library_writes_nothing_at_home(tmp_path):
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    program = "import time, appliance.encoders.session; time.sleep(0.5)"
    subprocess.run([sys.executable, "-B", "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_facts_that_do_not_fit_the_graph_are_refused(minilm_model, reranker_model):
    replace = msgspec.structs.replace
    with pytest.raises(SetupError, match="384 dimensions; its manifest says 512"):
        Embedder(replace(minilm_model, dimensions=512), threads=1)
    with pytest.raises(SetupError, match="no output embedding; it has last_hidden_state"):
        Embedder(replace(minilm_model, output="embedding"), threads=1)
    with pytest.raises(SetupError, match="last_hidden_state has 3 axes; expected 2"):
        Reranker(replace(minilm_model, role="rerank", output="last_hidden_state"), threads=1)
    with pytest.raises(SetupError, match="outputs are last_hidden_state; expected one of 2 axes"):
        Reranker(replace(minilm_model, role="rerank"), threads=1)
    with pytest.raises(SetupError, match="outputs are logits; expected one of 3 axes"):
        Embedder(replace(reranker_model, role="embed"), threads=1)


def test_another_model_s_tokenizer_is_refused(minilm_model, e5_model):
    with pytest.raises(SetupError, match="do not belong together"):
        Embedder(msgspec.structs.replace(minilm_model, tokenizer=e5_model.tokenizer), threads=1)


# ONNX is protobuf: a field is its number and wire type, then a varint or a length and bytes. Field numbers
# are those of onnx.proto.


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def model_with_external_data(location: str) -> bytes:
    """A graph y = x + w whose w, four floats, lies in the file `location`."""
    entries = [("location", location), ("offset", "0"), ("length", "16")]
    external = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries)
    tensor = field(1, 4) + field(2, 1) + field(8, "w") + external + field(14, 1)
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Add")
    kind = field(1, field(1, 1) + field(2, field(1, field(1, 4))))
    ends = field(11, field(1, "x") + field(2, kind)) + field(12, field(1, "y") + field(2, kind))
    graph = field(1, node) + field(2, "g") + field(5, tensor) + ends
    return field(1, 10) + field(8, field(1, "") + field(2, 21)) + field(7, graph)
