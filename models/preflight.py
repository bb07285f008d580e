"""Checks a model's files before a native library sees them: their formats, and that they fit the manifest."""

from __future__ import annotations

from typing import Any

import msgspec

from models.adapter import read_adapter
from models.errors import MalformedModel
from models.gguf import read_gguf
from models.manifest import Manifest
from models.onnx import read_onnx
from models.region import Extent, Region

MAX_TOKENIZER_BYTES = 128 << 20


def check(manifest: Manifest, blob: dict[str, Extent]) -> None:
    """`blob` maps the manifest's file names to where they lie. Raises MalformedModel, UnsupportedModel."""
    if manifest.role == "adapter":
        read_adapter(*blob["model.gguf"].parts)
        return
    if manifest.format == "gguf":
        read_gguf(*blob["model.gguf"].parts)
        return
    read_tokenizer(blob["tokenizer.json"])
    facts = read_onnx(*blob["model.onnx"].parts)
    encoding = manifest.encoding
    assert encoding is not None, "the manifest's own check"
    inputs = {value.name for value in facts.inputs}
    if inputs != set(encoding.inputs):
        raise MalformedModel(
            manifest.name, f"model.onnx takes {sorted(inputs)}, its manifest says {list(encoding.inputs)}"
        )
    if encoding.output not in {value.name for value in facts.outputs}:
        raise MalformedModel(manifest.name, f"model.onnx has no output {encoding.output!r}")


def read_tokenizer(extent: Extent) -> dict[str, Any]:
    """The top level of a tokenizer.json, its parts undecoded. Raises MalformedModel."""
    with Region(*extent.parts) as region:
        if region.length > MAX_TOKENIZER_BYTES:
            raise MalformedModel(
                "tokenizer.json", f"has {region.length:,} bytes, more than {MAX_TOKENIZER_BYTES:,}"
            )
        content = region.read(0, region.length)
    try:
        parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedModel("tokenizer.json", f"is not a JSON object: {error}") from error
    if "model" not in parts:
        raise MalformedModel("tokenizer.json", "has no `model`; it is not a tokenizers file")
    return parts
