"""ONNX preflight: the surface of sound graphs, and a refusal of whatever reaches outside the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import MalformedModel
from models.onnx import read_onnx
from models.protobuf import bytes_field, integer_field, text_field, varint

Build = Callable[..., bytes]


@pytest.fixture
def read(tmp_path: Path):
    def _read(content: bytes):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return read_onnx(path)

    return _read


def model(graph: bytes, *, ir_version: int = 8, opsets: int = 1, rest: bytes = b"") -> bytes:
    opset = bytes_field(8, integer_field(2, 17))
    return integer_field(1, ir_version) + bytes_field(7, graph) + opset * opsets + rest


def node(operator: str, *, domain: str = "", attribute: bytes = b"") -> bytes:
    return bytes_field(1, text_field(4, operator) + bytes_field(5, attribute) + text_field(7, domain))


def tensor(*fields: bytes, shape: tuple[int, ...] = (2,), element: int = 1) -> bytes:
    dimensions = b"".join(integer_field(1, length) for length in shape)
    return dimensions + integer_field(2, element) + text_field(8, "w") + b"".join(fields)


def weights(*fields: bytes, shape: tuple[int, ...] = (2,), element: int = 1) -> bytes:
    return bytes_field(5, tensor(*fields, shape=shape, element=element))


RAW = bytes_field(9, bytes(8))
EXTERNAL = bytes_field(13, text_field(1, "location") + text_field(2, "/etc/passwd"))


def test_facts_of_a_sound_file(read, build_onnx: Build) -> None:
    facts = read(build_onnx())
    assert (facts.ir_version, facts.opsets, facts.node_count, facts.tensor_count) == (8, (("", 13),), 1, 1)
    assert [(v.name, v.element, v.shape) for v in facts.inputs] == [
        ("input_ids", "int64", ("batch", "seq")),
        ("attention_mask", "int64", ("batch", "seq")),
    ]
    assert [(v.name, v.element, v.shape) for v in facts.outputs] == [
        ("last_hidden_state", "float", ("batch", "seq", 8))
    ]
    assert facts.tensor_bytes == 16 * 8 * 4


def test_reads_a_range_inside_a_larger_file(tmp_path: Path, build_onnx: Build) -> None:
    content = build_onnx()
    path = tmp_path / "executable"
    path.write_bytes(b"\xff" * 1_000 + content + b"\xff" * 10)
    assert read_onnx(path, 1_000, len(content)).node_count == 1


def test_a_weight_listed_as_input_is_no_input(read) -> None:
    listed = b"".join(bytes_field(11, text_field(1, name)) for name in ("w", "x"))
    assert [value.name for value in read(model(weights(RAW) + listed)).inputs] == ["x"]


def test_a_models_own_functions_may_be_called(read) -> None:
    function = bytes_field(
        25, text_field(1, "Twice") + text_field(10, "own") + bytes_field(7, text_field(4, "Add"))
    )
    assert read(model(node("Twice", domain="own"), rest=function)).node_count == 2


def nested(depth: int) -> bytes:
    graph = node("Identity")
    for _ in range(depth):
        graph = node("If", attribute=bytes_field(6, graph))
    return graph


SPARSE = bytes_field(1, tensor(EXTERNAL))
MALFORMED = {
    "empty": (b"", "0 bytes"),
    "no graph": (integer_field(1, 8) + bytes_field(8, integer_field(2, 17)), "0 graphs"),
    "two graphs": (model(b"", rest=bytes_field(7, b"")), "2 graphs"),
    "IR version": (model(b"", ir_version=99), "IR version 99"),
    "no opset": (model(b"", opsets=0), "operator sets"),
    "training": (model(b"", rest=bytes_field(20, b"")), "training"),
    "external data": (model(weights(EXTERNAL)), "in another file"),
    "external location only": (model(weights(RAW, integer_field(14, 1))), "in another file"),
    "external location as bytes": (model(weights(RAW, bytes_field(14, b"\1"))), "in another file"),
    "external in an attribute": (
        model(node("Constant", attribute=bytes_field(5, tensor(EXTERNAL)))),
        "in another file",
    ),
    "external in a list": (model(node("X", attribute=bytes_field(10, tensor(EXTERNAL)))), "in another file"),
    "external in a subgraph": (
        model(node("If", attribute=bytes_field(6, weights(EXTERNAL)))),
        "in another file",
    ),
    "external in subgraphs": (
        model(node("If", attribute=bytes_field(11, weights(EXTERNAL)))),
        "in another file",
    ),
    "external in a sparse weight": (model(bytes_field(15, SPARSE)), "in another file"),
    "external in a sparse attribute": (
        model(node("X", attribute=bytes_field(22, SPARSE))),
        "in another file",
    ),
    "external in sparse attributes": (model(node("X", attribute=bytes_field(23, SPARSE))), "in another file"),
    "external in a function": (
        model(b"", rest=bytes_field(25, bytes_field(7, bytes_field(5, bytes_field(5, tensor(EXTERNAL)))))),
        "in another file",
    ),
    "external in a function's default": (
        model(b"", rest=bytes_field(25, bytes_field(11, bytes_field(5, tensor(EXTERNAL))))),
        "in another file",
    ),
    "another program's context": (model(node("EPContext", domain="com.microsoft")), "outside the file"),
    "foreign operator": (model(node("Run", domain="evil.corp")), "'evil.corp'"),
    "data too short": (model(weights(bytes_field(9, bytes(7)))), "7 bytes of float"),
    "data too long": (model(weights(bytes_field(9, bytes(9)))), "9 bytes of float"),
    "data twice": (model(weights(RAW, RAW)), "data twice"),
    "no data": (model(weights(shape=(1 << 20, 1 << 19))), "no data for it"),
    "negative shape": (model(weights(RAW, shape=(-2,))), "impossible shape"),
    "overflowing shape": (model(weights(RAW, shape=(1 << 32, 1 << 32))), "impossible shape"),
    "rank": (model(weights(RAW, shape=(1,) * 17)), "impossible shape"),
    "element type": (model(weights(RAW, element=99)), "element type 99"),
    "depth": (model(nested(17)), "deeper than 16"),
    "group": (b"\x0b" + model(b""), "wire type 3"),
    "field number 0": (b"\x00\x01" + model(b""), "field number 0"),
    "length": (integer_field(1, 8) + varint(7 << 3 | 2) + varint(1 << 62), "reaches past"),
    "endless varint": (b"\x08" + b"\xff" * 11, "varint"),
    "not a message": (model(integer_field(1, 5)), "no message"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_refuses_and_says_what_is_wrong(case: str, read) -> None:
    content, words = MALFORMED[case]
    with pytest.raises(MalformedModel, match=words):
        read(content)


def test_nesting_up_to_the_limit_is_read(read) -> None:
    assert read(model(nested(16))).node_count == 17


@settings(max_examples=300, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutations_are_read_or_refused_quickly(data: st.DataObject, read, build_onnx: Build) -> None:
    content = bytearray(build_onnx(data.draw(st.sampled_from(["embed", "rerank"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(patch)] = patch
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        read(bytes(content[:cut]))
    except MalformedModel:
        return


@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [
        ("all-minilm-l6-v2", 3, ("last_hidden_state", ("batch", "sequence", 384))),
        ("multilingual-e5-small", 2, ("last_hidden_state", ("batch", "seq", 384))),
        ("ms-marco-minilm-l-12-v2", 3, ("logits", ("batch_size", 1))),
    ],
)
def test_real_models(name: str, inputs: int, output: tuple[str, object], real_model) -> None:
    facts = read_onnx(real_model(name, "model.onnx"))
    assert len(facts.inputs) == inputs
    assert [(value.name, value.shape) for value in facts.outputs] == [output]
