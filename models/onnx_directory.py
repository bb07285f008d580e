"""Works out what an ONNX directory holds: which files matter, its role, and how to feed and pool it.

Understands the layouts of sentence-transformers and of plain exports: `model.onnx` and `tokenizer.json`, and,
where present, `config.json`, `sentence_bert_config.json`, `config_sentence_transformers.json`, `modules.json`
and `1_Pooling/config.json`. Every fact it has to assume leaves a sentence. Links are refused, since what
they point at need not be the model's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from models.errors import MalformedModel, UnsupportedModel
from models.manifest import Encoding, InputName, Pooling, Role
from models.onnx import OnnxFacts, ValueFacts, read_onnx
from models.preflight import read_tokenizer
from models.region import Extent, Region

_GRAPHS = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_MAX_CONFIG_BYTES = 1 << 20
_DEFAULT_TOKENS = 512
_POOLED_OUTPUTS = "the graph gives one vector per text already; Hearth pools token vectors itself"

Config = dict[str, Any]
Assumed = TypeVar("Assumed", int, bool)


class OnnxDirectory:
    """What was found. `files` maps the store's file names to paths; `assumed` holds a sentence per guess."""

    def __init__(self, root: Path) -> None:
        """Raises MalformedModel for unsound files, UnsupportedModel for models Hearth does not serve."""
        self.root = root
        self.assumed: list[str] = []
        graph = next((root / name for name in _GRAPHS if (root / name).exists()), None)
        tokenizer = root / "tokenizer.json"
        if graph is None or not tokenizer.exists():
            wanted = "model.onnx" if graph is None else "tokenizer.json"
            raise UnsupportedModel(
                root.name, f"has no {wanted}; an ONNX directory needs model.onnx and tokenizer.json"
            )
        self.files = {"model.onnx": graph, "tokenizer.json": tokenizer}
        self._require_plain()
        self._facts = read_onnx(graph)
        self._tokenizer = read_tokenizer(Extent.whole(tokenizer))
        self._config = self._read("config.json")
        self.inputs = _inputs(self._facts, root.name)
        self.output, self.role = self._surface()

    def encoding(self) -> Encoding:
        return Encoding(self._max_tokens(), self._pad_id(), self.inputs, self.output.name)

    def pooling(self) -> Pooling | None:
        """None for a reranker."""
        if self.role != "embed":
            return None
        prompts = self._read("config_sentence_transformers.json").get("prompts")
        prompts = prompts if isinstance(prompts, dict) else {}
        return Pooling(
            method="cls" if self._pools_first_token() else "mean",
            dimensions=self._dimensions(),
            normalize=self._normalizes(),
            query_prefix=_text(prompts.get("query")),
            passage_prefix=_text(prompts.get("passage", prompts.get("document"))),
        )

    def context_length(self) -> int:
        return _positive(self._config.get("max_position_embeddings")) or self._max_tokens()

    def _surface(self) -> tuple[ValueFacts, Role]:
        """The output to read and the role it implies: token vectors embed, one logit per pair reranks."""
        for value in self._facts.outputs:
            if len(value.shape) == 3 and value.element in ("float", "float16"):
                return value, "embed"
        for value in self._facts.outputs:
            if len(value.shape) == 2 and value.shape[1] == 1:
                return value, "rerank"
        found = ", ".join(f"{value.name}{list(value.shape)}" for value in self._facts.outputs)
        pooled = any(value.name == "sentence_embedding" for value in self._facts.outputs)
        reason = _POOLED_OUTPUTS if pooled else "an embedder gives [batch, seq, size], a reranker [batch, 1]"
        raise UnsupportedModel(self.root.name, f"model.onnx gives {found or 'nothing'}: {reason}")

    def _max_tokens(self) -> int:
        stated = _positive(self._read("sentence_bert_config.json").get("max_seq_length"))
        positions = _positive(self._config.get("max_position_embeddings"))
        if limits := [limit for limit in (stated, positions) if limit]:
            return min(limits)
        return self._assume(
            _DEFAULT_TOKENS, f"longest input taken as {_DEFAULT_TOKENS} tokens: no config.json says"
        )

    def _pad_id(self) -> int:
        padding = self._decoded("padding")
        for stated in (self._config.get("pad_token_id"), padding.get("pad_id") if padding else None):
            if type(stated) is int and stated >= 0:
                return stated
        return self._assume(0, "padding token taken as id 0: neither config.json nor tokenizer.json says")

    def _dimensions(self) -> int:
        for stated in (self.output.shape[2], self._config.get("hidden_size")):
            if size := _positive(stated):
                return size
        raise UnsupportedModel(self.root.name, "neither model.onnx nor config.json says how long a vector is")

    def _pools_first_token(self) -> bool:
        config = self._read("1_Pooling/config.json")
        if not config:
            return self._assume(
                False, "pooling taken as the mean of all tokens: there is no 1_Pooling/config.json"
            )
        modes = {name for name, value in config.items() if name.startswith("pooling_mode_") and value is True}
        if modes not in ({"pooling_mode_cls_token"}, {"pooling_mode_mean_tokens"}):
            raise UnsupportedModel(self.root.name, f"pools by {sorted(modes)}; Hearth pools by mean or cls")
        return modes == {"pooling_mode_cls_token"}

    def _normalizes(self) -> bool:
        path = self.root / "modules.json"
        if not path.exists():
            return self._assume(True, "vectors taken as normalised to length 1: there is no modules.json")
        modules = self._parse(path)
        kinds = [str(module.get("type", "")) for module in modules if isinstance(module, dict)]
        return any(kind.endswith("Normalize") for kind in kinds)

    def _read(self, name: str) -> Config:
        path = self.root / name
        if not path.exists():
            return {}
        content = self._parse(path)
        if not isinstance(content, dict):
            raise MalformedModel(name, "is not a JSON object")
        return content

    def _parse(self, path: Path) -> Any:
        name = str(path.relative_to(self.root))
        with Region(path, follow_links=False) as region:
            if region.length > _MAX_CONFIG_BYTES:
                raise MalformedModel(name, f"has {region.length:,} bytes, more than {_MAX_CONFIG_BYTES:,}")
            content = region.read(0, region.length)
        try:
            return msgspec.json.decode(content)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise MalformedModel(name, f"is not JSON: {error}") from error

    def _decoded(self, part: str) -> Config | None:
        value = msgspec.json.decode(self._tokenizer.get(part, b"null"))
        return value if isinstance(value, dict) else None

    def _require_plain(self) -> None:
        for name, path in self.files.items():
            if path.is_symlink() or path.parent.is_symlink():
                raise UnsupportedModel(
                    name, f"{path} is a link; copy the real files, for instance with cp -rL"
                )

    def _assume(self, value: Assumed, sentence: str) -> Assumed:
        if sentence not in self.assumed:
            self.assumed.append(sentence)
        return value


def _inputs(facts: OnnxFacts, label: str) -> tuple[InputName, ...]:
    names = [value.name for value in facts.inputs]
    wrong = [value.name for value in facts.inputs if value.name not in _INPUTS or value.element != "int64"]
    if wrong or not {"input_ids", "attention_mask"} <= set(names):
        raise UnsupportedModel(
            label,
            f"model.onnx takes {', '.join(names) or 'nothing'}; Hearth gives int64 {', '.join(_INPUTS)}",
        )
    return tuple(cast(InputName, name) for name in names)


def _positive(value: object) -> int:
    return value if type(value) is int and 0 < value < 1 << 24 else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
