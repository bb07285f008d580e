"""The wire format: what is written reads back, and a reader stays inside its bounds."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import protobuf
from models.errors import MalformedModel
from models.protobuf import WireReader, bytes_field, float_field, integer_field
from models.region import Region


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "message"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=40))
def test_integers_read_back_packed_and_not(path: Path, numbers: list[int]) -> None:
    unpacked = b"".join(integer_field(3, number) for number in numbers)
    packed = bytes_field(3, b"".join(protobuf.varint(number) for number in numbers))
    for content in (unpacked, packed):
        path.write_bytes(content)
        with Region(path) as region:
            reader = WireReader(region)
            found = [n for field in reader.fields(0, reader.length) for n in reader.integers(field, 40)]
        assert found == numbers


def test_fields_give_their_spans(path: Path) -> None:
    path.write_bytes(float_field(1, 0.5) + bytes_field(2, "é".encode()) + integer_field(600, 7))
    with Region(path) as region:
        reader = WireReader(region)
        real, text, number = reader.fields(0, reader.length)
        assert struct.pack("<I", real.value) == struct.pack("<f", 0.5)
        assert reader.text(text, 2) == "é"
        assert (number.number, reader.integer(number)) == (600, 7)
        with pytest.raises(MalformedModel, match="at most 1 bytes"):
            reader.text(text, 1)
        with pytest.raises(MalformedModel, match="no integer"):
            reader.integer(text)


def test_a_field_may_not_leave_its_message(path: Path) -> None:
    path.write_bytes(bytes_field(1, b"inside") + b"outside")
    with Region(path) as region, pytest.raises(MalformedModel, match="reaches past"):
        list(WireReader(region).fields(0, 5))


def test_the_number_of_fields_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "_MAX_FIELDS", 10)
    path.write_bytes(integer_field(1, 1) * 11)
    with Region(path) as region, pytest.raises(MalformedModel, match="more than 10 fields"):
        list(WireReader(region).fields(0, region.length))
