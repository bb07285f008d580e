"""LoRA adapters: what the preflight reads, which base they fit, and how they are added."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.adapter import misfit, read_adapter
from models.add import add
from models.errors import MalformedModel, ModelError, UnsupportedModel
from models.region import Extent
from models.store import Store
from tests import tiny_model
from tests.tiny_adapter import TINY_SHAPES, adapter_gguf


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def extent(path: Path) -> Extent:
    return Extent(path, 0, path.stat().st_size)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "models")
    for seed, name in enumerate(("ada", "bob")):
        tiny_model.install(found, name, tiny_model.tiny_gguf(seed, name))
    return found


def test_the_facts_are_the_files_own(tmp_path: Path) -> None:
    facts = read_adapter(written(tmp_path / "a.gguf", adapter_gguf(alpha=4.0)))
    assert (facts.architecture, facts.alpha, facts.licence) == ("llama", 4.0, "mit")
    assert set(facts.pairs) == set(TINY_SHAPES)
    assert facts.tensor_bytes == 4 * sum(rows + columns for rows, columns in TINY_SHAPES.values())


def test_an_adapter_fits_a_model_with_the_same_weights_only(tmp_path: Path) -> None:
    base = extent(written(tmp_path / "base.gguf", tiny_model.tiny_gguf()))
    sound = read_adapter(written(tmp_path / "a.gguf", adapter_gguf()))
    assert misfit(sound, base) is None
    wide = read_adapter(written(tmp_path / "b.gguf", adapter_gguf(shapes={"blk.0.attn_q.weight": (64, 32)})))
    assert "shape" in (misfit(wide, base) or "")
    deep = read_adapter(written(tmp_path / "c.gguf", adapter_gguf(shapes={"blk.1.attn_q.weight": (64, 64)})))
    assert "does not have" in (misfit(deep, base) or "")
    other = {"general.architecture": (tiny_model.STRING, "qwen2")}
    assert "qwen2" in (misfit(read_adapter(written(tmp_path / "d.gguf", adapter_gguf(**other))), base) or "")


def lonely() -> bytes:
    keys = {"general.type": (8, "adapter"), "general.architecture": (8, "llama"), "adapter.type": (8, "lora")}
    return tiny_model.gguf(keys, {"blk.0.attn_q.weight.lora_a": tiny_model.tensors()["output_norm.weight"]})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (tiny_model.tiny_gguf(), UnsupportedModel),
        (adapter_gguf(**{"adapter.type": (tiny_model.STRING, "control_vector")}), UnsupportedModel),
        (adapter_gguf(**{"adapter.lora.alpha": (tiny_model.STRING, "8")}), MalformedModel),
        (adapter_gguf(alpha=float("nan")), MalformedModel),
        (adapter_gguf(shapes={}), MalformedModel),
        (lonely(), MalformedModel),
        (adapter_gguf()[:200], MalformedModel),
    ],
    ids=[
        "a model",
        "another type",
        "alpha a text",
        "alpha no number",
        "changes nothing",
        "half a pair",
        "cut",
    ],
)
def test_what_is_no_lora_adapter_is_refused(tmp_path: Path, content: bytes, error: type[ModelError]) -> None:
    with pytest.raises(error):
        read_adapter(written(tmp_path / "x.gguf", content))


def test_an_adapter_is_added_with_its_base_and_strength(tmp_path: Path, store: Store) -> None:
    path = written(tmp_path / "Poet.gguf", adapter_gguf())
    installed = add(store, path, base="bob", scale=0.5)
    manifest = installed.manifest
    assert (manifest.name, manifest.role, manifest.context_length) == ("poet", "adapter", tiny_model.CONTEXT)
    assert manifest.adapter is not None
    assert (manifest.adapter.base, manifest.adapter.scale) == ("bob", 0.5)
    assert store.get("poet") == installed


def test_a_base_that_could_be_several_must_be_named(tmp_path: Path, store: Store) -> None:
    path = written(tmp_path / "poet.gguf", adapter_gguf())
    with pytest.raises(UnsupportedModel, match="--base: ada, bob"):
        add(store, path)
    store.remove("ada")
    adapter = add(store, path).manifest.adapter
    assert adapter is not None
    assert adapter.base == "bob"


def test_an_adapter_that_fits_nothing_here_is_not_added(tmp_path: Path, store: Store) -> None:
    path = written(tmp_path / "poet.gguf", adapter_gguf(shapes={"blk.7.attn_q.weight": (64, 64)}))
    with pytest.raises(UnsupportedModel, match=r"blk\.7\.attn_q"):
        add(store, path)
    with pytest.raises(UnsupportedModel, match="does not fit ada"):
        add(store, path, base="ada")
    assert [model.name for model in store.list()] == ["ada", "bob"]
