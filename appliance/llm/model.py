"""A model that llama.cpp has loaded: its weights, its words and its LoRA adapters."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

from appliance.errors import SetupError
from appliance.launch import AdapterFile, GeneratorOrder
from appliance.llm.bindings import forget_log, llama, load_model_file, why
from appliance.llm.vocabulary import LlamaVocabulary


class LlamaModel:
    """Owns the native model, which every context of it must be closed before.

    Raises SetupError when the file cannot be loaded, or holds a model that cannot be served.
    """

    def __init__(self, order: GeneratorOrder, progress: Callable[[float], None]) -> None:
        self.native = _load(order, progress)
        self._require_shareable_cache(order.name)
        self.vocabulary = LlamaVocabulary(self.native)
        self.adapters: dict[str, tuple[Any, float]] = {}  # native and strength
        self.refused_adapters: dict[str, str] = {}  # and why
        for adapter in order.adapters:
            self._load_adapter(adapter)

    def _require_shareable_cache(self, name: str) -> None:
        """Raises SetupError for a model that does not remember its past token by token.

        Only such a memory can be shared from the beginning up to any point, which the scheduler builds on.
        """
        model = self.native
        unfit = {
            "has an encoder": llama.llama_model_has_encoder(model),
            "has no decoder": not llama.llama_model_has_decoder(model),
            "is recurrent": llama.llama_model_is_recurrent(model),
            "is partly recurrent": llama.llama_model_is_hybrid(model),
            "is a diffusion model": llama.llama_model_is_diffusion(model),
        }
        for reason, applies in unfit.items():
            if applies:
                llama.llama_model_free(model)
                raise SetupError(f"the model {name} {reason}; only decoders with attention are served")

    def _load_adapter(self, adapter: AdapterFile) -> None:
        """One that llama.cpp refuses must not cost the others, or the model, their place."""
        forget_log()
        try:
            with _plain_file(adapter) as path:
                native = llama.llama_adapter_lora_init(self.native, path.encode())
        except OSError as error:
            self.refused_adapters[adapter.name] = f"its file cannot be read: {error}"
            return
        if native:
            self.adapters[adapter.name] = (native, adapter.scale)
        else:
            self.refused_adapters[adapter.name] = f"llama.cpp refuses it: {why()}"

    @property
    def description(self) -> str:
        """The model as llama.cpp names it, such as `llama 135M Q4_1`, and the shape of its cache."""
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self.native, buffer, len(buffer))
        layers, heads = llama.llama_model_n_layer(self.native), llama.llama_model_n_head_kv(self.native)
        return f"{buffer.value.decode(errors='replace')}, {layers} layers, {heads} heads"

    @property
    def trained_context(self) -> int:
        return int(llama.llama_model_n_ctx_train(self.native))

    @property
    def parameters(self) -> int:
        return int(llama.llama_model_n_params(self.native))

    @property
    def weight_bytes(self) -> int:
        return int(llama.llama_model_size(self.native))

    def close(self) -> None:
        llama.llama_model_free(self.native)


def _load(order: GeneratorOrder, progress: Callable[[float], None]) -> object:
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = order.repack

    @llama.llama_progress_callback  # type: ignore[untyped-decorator]
    def report(fraction: float, _: object) -> bool:
        progress(fraction)
        return True

    params.progress_callback = report
    try:
        model = load_model_file(order.weights, order.weights_offset, params)
    except OSError as error:
        raise SetupError(f"the weights of {order.name} cannot be opened: {error}") from error
    if not model:
        raise SetupError(f"llama.cpp refuses the model {order.name}: {why()}")
    return model


@contextlib.contextmanager
def _plain_file(adapter: AdapterFile) -> Iterator[str]:
    """A path where the adapter is a file of its own: llama.cpp counts from the beginning of a file."""
    if not adapter.offset:
        yield adapter.path
        return
    descriptor = os.memfd_create(adapter.name, os.MFD_CLOEXEC)
    try:
        with open(adapter.path, "rb") as whole, open(descriptor, "wb", closefd=False) as copy:
            whole.seek(adapter.offset)
            copy.write(whole.read(adapter.bytes or -1))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
