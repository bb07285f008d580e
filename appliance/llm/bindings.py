"""llama.cpp behind the `Backend` seam: the only import of llama_cpp, and the owner of native lifetimes.

Owns the model, its context (one unified KV cache), the reusable batch and the sampler chains. It does not
schedule, does not know requests, and holds no policy. Native memory is freed in `close`, model last.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Read by OpenMP while llama.cpp is loaded: how often its threads look again before they sleep, where they
# meet hundreds of times a token. Asleep at once they take twice as long for a token of a small model.
# Spinning for long, as is the default, they spin away the time that the one they wait for needs, where
# others use the cores too; `cores` keeps them out of that, and this bounds what it costs until it has
# noticed.
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

import llama_cpp
import llama_cpp.llama_cpp as llama
import numpy as np
from llama_cpp._ggml import libggml

from appliance.errors import ConfigError, InternalError, SetupError
from appliance.llm import sampling
from appliance.llm.backend import Content, Logits, Span
from appliance.llm.cores import FreeCores, usable_cores
from appliance.records import AdapterFile, GeneratorOrder, SamplingParams

PIECE_BYTES = 256  # enough for nearly every token; longer ones are asked for twice
CONTROL_ATTRIBUTES = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
MARKERS = ("<|", "<｜")  # how turn markers begin that some models define as user tokens
CACHE_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0}
FLASH_ATTENTION = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
RECENT_LOG_LINES = 40
_VARIANT = "libggml-cpu-"  # begins the names of the CPU backends that are each for some processors

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fdopen.argtypes, _libc.fdopen.restype = [ctypes.c_int, ctypes.c_char_p], ctypes.c_void_p
_libc.fseek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
_libc.fclose.argtypes = [ctypes.c_void_p]

_recent_log: list[str] = []


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_log(level: int, text: bytes, _: object) -> None:
    """Keeps llama.cpp's last lines: they say why a load failed, and nobody wants them otherwise."""
    _recent_log.append(text.decode(errors="replace").rstrip())
    del _recent_log[:-RECENT_LOG_LINES]


def _why() -> str:
    telling = [line for line in _recent_log if "error" in line.lower() or "failed" in line.lower()]
    return (telling or _recent_log or ["no reason given"])[-1]


def load_compute_backends() -> None:
    """Make the compute backends known: the loadable CPU variants where this build has them."""
    llama.llama_log_set(_keep_log, None)
    directory = os.environ.get("HEARTH_GGML_DIR") or str(Path(llama.__file__).parent.parent / "bin")
    if os.path.isdir(directory):
        libggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        libggml.ggml_backend_load_all_from_path(directory.encode())
    llama.llama_backend_init()


def system_info() -> str:
    """llama.cpp's own line about the instruction sets it uses, such as `CPU : AVX2 = 1 | FMA = 1`."""
    return str(llama.llama_print_system_info().decode())


def version() -> str:
    """Of the bindings, which name the llama.cpp they were built with."""
    return f"{llama_cpp.__version__}"


def compute_devices() -> tuple[str, ...]:
    """Name and description of each compute device that ggml registered."""
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    texts = []
    for index in range(libggml.ggml_backend_dev_count()):
        device = libggml.ggml_backend_dev_get(index)
        words = []
        for part in ("name", "description"):
            read = getattr(libggml, f"ggml_backend_dev_{part}")
            read.restype, read.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
            words.append(read(device).decode(errors="replace").strip())
        texts.append(": ".join(words))
    return tuple(texts)


def cpu_variant() -> str:
    """For which generation of processors the loaded CPU backend was compiled; empty: for this one."""
    loaded = next((path for path in _mapped_files() if path.name.startswith(_VARIANT)), None)
    if loaded is None:
        return ""
    there = len(list(loaded.parent.glob(f"{_VARIANT}*.so")))
    return f"{loaded.stem.removeprefix(_VARIANT)}, of {there} that are here"


def _mapped_files() -> set[Path]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(fields[5]) for line in lines if len(fields := line.split(maxsplit=5)) == 6}


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


class LlamaVocabulary:
    """Tokens and text of a loaded model; look-ups only, so safe from any thread."""

    def __init__(self, model: object) -> None:
        self._vocab = llama.llama_model_get_vocab(model)
        self.size: int = llama.llama_vocab_n_tokens(self._vocab)
        template = llama.llama_model_chat_template(model, None)
        self.chat_template: str | None = template.decode(errors="replace") if template else None
        self._pieces: dict[int, bytes] = {}
        self._literals: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        self._adds_bos = bool(llama.llama_vocab_get_add_bos(self._vocab))
        self.bos_text = self._special_text(llama.llama_vocab_bos(self._vocab))
        self.eos_text = self._special_text(llama.llama_vocab_eos(self._vocab))
        self._special_texts, self.longest_token = self._survey()

    def _survey(self) -> tuple[tuple[str, ...], int]:
        """The texts of special tokens, and an upper bound of every token's bytes.

        User-defined tokens are found in any text, parse_special or not. Only those that look like turn
        markers count as special: others, such as <think> or runs of spaces, are the client's to write.
        """
        texts, longest = [], 1
        for token in range(self.size):
            text = llama.llama_vocab_get_text(self._vocab, token) or b""
            longest = max(longest, len(text))
            attributes = llama.llama_vocab_get_attr(self._vocab, token)
            if attributes & (CONTROL_ATTRIBUTES | llama.LLAMA_TOKEN_ATTR_USER_DEFINED):
                literal = self.literal(token).decode(errors="ignore")
                if literal and (attributes & CONTROL_ATTRIBUTES or literal.startswith(MARKERS)):
                    texts.append(literal)
        return tuple(texts), longest

    def _special_text(self, token: int) -> str:
        return "" if token < 0 else self.literal(token).decode(errors="replace")

    def tokenize(self, text: str, *, add_bos: bool, parse_special: bool) -> list[int]:
        raw = text.encode("utf-8", errors="replace")
        add_bos = add_bos and self._adds_bos
        room = len(raw) + 4  # enough but for vocabularies that write a space as several bytes
        buffer = (ctypes.c_int32 * room)()
        count = llama.llama_tokenize(self._vocab, raw, len(raw), buffer, room, add_bos, parse_special)
        if count < 0:
            room = -count
            buffer = (ctypes.c_int32 * room)()
            count = llama.llama_tokenize(self._vocab, raw, len(raw), buffer, room, add_bos, parse_special)
        if count < 0:
            raise InternalError(f"the tokenizer asked for {-count} tokens where {room} must be enough")
        tokens: list[int] = buffer[:count]
        return tokens

    def piece(self, token: int) -> bytes:
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._render(token, special=False)
        return known

    def literal(self, token: int) -> bytes:
        known = self._literals.get(token)
        if known is None:
            known = self._literals[token] = self._render(token, special=True)
        return known

    def _render(self, token: int, *, special: bool) -> bytes:
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def ends_generation(self, token: int) -> bool:
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = bool(llama.llama_vocab_is_eog(self._vocab, token))
        return known

    def special_texts(self) -> tuple[str, ...]:
        return self._special_texts

    def digest(self) -> bytes:
        """Equal for vocabularies in which every number stands for the same text."""
        found = hashlib.sha256()
        for token in range(self.size):
            found.update((llama.llama_vocab_get_text(self._vocab, token) or b"") + b"\0")
        return found.digest()


class LlamaSampler:
    """A native sampler chain of one sequence; plain greedy choice needs none and takes the argmax."""

    def __init__(self, backend: LlamaBackend, params: SamplingParams, seed: int) -> None:
        self._backend = backend
        plan = sampling.stages(params, seed)
        self.is_greedy = plan == (sampling.Stage("greedy"),)
        self._chain = None if self.is_greedy else self._build(plan, params)

    def _build(self, plan: Sequence[sampling.Stage], params: SamplingParams) -> object:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        size = self._backend.vocabulary.size
        for stage in plan:
            match stage.name:
                case "logit_bias":
                    pairs = [llama.llama_logit_bias(token, bias) for token, bias in params.logit_bias.items()]
                    array = (llama.llama_logit_bias * len(pairs))(*pairs)
                    native = llama.llama_sampler_init_logit_bias(size, len(pairs), array)
                case "penalties":
                    native = llama.llama_sampler_init_penalties(
                        size, sampling.PENALTY_WINDOW, *stage.arguments
                    )
                case "top_k":
                    native = llama.llama_sampler_init_top_k(int(stage.arguments[0]))
                case "top_p":
                    native = llama.llama_sampler_init_top_p(stage.arguments[0], 1)
                case "min_p":
                    native = llama.llama_sampler_init_min_p(stage.arguments[0], 1)
                case "temperature":
                    native = llama.llama_sampler_init_temp(stage.arguments[0])
                case "draw":
                    # The default seed is llama.cpp's word for "any", which would not be reproducible.
                    seed = int(stage.arguments[0]) % llama.LLAMA_DEFAULT_SEED
                    native = llama.llama_sampler_init_dist(seed)
                case "greedy":
                    native = llama.llama_sampler_init_greedy()
            llama.llama_sampler_chain_add(chain, native)
        return chain

    def pick(self, row: int) -> int:
        if self._chain is None:
            return int(self._backend.logits(row).argmax())
        return int(
            llama.llama_sampler_sample(self._chain, self._backend.context, self._backend.batch_index(row))
        )

    def accept(self, token: int) -> None:
        if self._chain is not None:
            llama.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        if self._chain is not None:
            llama.llama_sampler_free(self._chain)
            self._chain = None


class LlamaBackend:
    """A model and its context; or, with `beside`, one more context of the model that another has loaded.

    Raises SetupError when the model cannot be loaded or its cache does not fit.
    """

    def __init__(
        self,
        order: GeneratorOrder,
        cells: int,
        progress: Callable[[float], None],
        beside: LlamaBackend | None = None,
    ) -> None:
        self._owns_model = beside is None
        if beside is None:
            self._model = self._load(order, progress)
            self._require_shareable_cache(order.name)
            self.vocabulary = LlamaVocabulary(self._model)
        else:
            self._model, self.vocabulary = beside._model, beside.vocabulary
        self.cells = cells
        most_sequences = min(int(llama.llama_max_parallel_sequences()), max(65, 2 * order.slots + 1))
        self.sequences = most_sequences - 1
        self._passage = self.sequences  # the sequence through which stored blocks go in and out
        self.batch_tokens = min(order.batch_tokens, cells)
        threads = order.threads or usable_cores()
        params = llama.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = self.batch_tokens
        params.n_seq_max = most_sequences
        params.n_outputs_max = most_sequences  # llama.cpp wants room for one output per sequence
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.type_k = params.type_v = CACHE_TYPES[order.cache_type]
        params.flash_attn_type = FLASH_ATTENTION[order.flash_attention]
        params.no_perf = True
        # What is computed apart must be rounded alike every time, and sums are split by threads.
        self._cores = FreeCores(threads) if beside is None else None
        self.context = llama.llama_init_from_model(self._model, params)
        if not self.context:
            if self._owns_model:
                llama.llama_model_free(self._model)
            raise SetupError(f"no memory for a cache of {cells} tokens: {_why()}")
        self._adapters: dict[str, tuple[Any, float]] = {}
        self._adapter = ""
        self.refused_adapters: dict[str, str] = {}  # and why
        for adapter in order.adapters:
            self._load_adapter(adapter)
        self._memory = llama.llama_get_memory(self.context)
        self._batch = _Batch(self.batch_tokens)
        self._rows: list[int] = []
        self._table: Logits | None = None  # every row of the last decode

    @staticmethod
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
            descriptor = os.open(order.weights, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SetupError(f"the weights of {order.name} cannot be opened: {error}") from error
        _recent_log.clear()
        stream = _libc.fdopen(descriptor, b"rb")
        _libc.fseek(stream, order.weights_offset, os.SEEK_SET)
        model = llama.llama_model_load_from_file_ptr(stream, params)
        _libc.fclose(stream)
        if not model:
            raise SetupError(f"llama.cpp refuses the model {order.name}: {_why()}")
        return model

    def _require_shareable_cache(self, name: str) -> None:
        """Raises SetupError for a model that does not remember its past token by token.

        Only such a memory can be shared from the beginning up to any point, which the scheduler builds on.
        """
        model = self._model
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
        _recent_log.clear()
        try:
            with _plain_file(adapter) as path:
                native = llama.llama_adapter_lora_init(self._model, path.encode())
        except OSError as error:
            self.refused_adapters[adapter.name] = f"its file cannot be read: {error}"
            return
        if native:
            self._adapters[adapter.name] = (native, adapter.scale)
        else:
            self.refused_adapters[adapter.name] = f"llama.cpp refuses it: {_why()}"

    def use(self, adapter: str) -> None:
        if adapter == self._adapter:
            return
        chosen = [self._adapters[adapter]] if adapter else []
        natives = (llama.llama_adapter_lora_p_ctypes * len(chosen))()
        for index, (native, _) in enumerate(chosen):
            natives[index] = ctypes.cast(native, llama.llama_adapter_lora_p_ctypes)
        scales = (ctypes.c_float * len(chosen))(*(scale for _, scale in chosen))
        status = llama.llama_set_adapters_lora(self.context, natives, len(chosen), scales)
        if status != 0:
            raise InternalError(f"llama_set_adapters_lora answered {status} for {adapter!r}")
        self._adapter = adapter

    @property
    def description(self) -> str:
        """The model as llama.cpp names it, such as `llama 135M Q4_1`, and the shape of its cache."""
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self._model, buffer, len(buffer))
        layers, heads = llama.llama_model_n_layer(self._model), llama.llama_model_n_head_kv(self._model)
        return f"{buffer.value.decode(errors='replace')}, {layers} layers, {heads} heads"

    @property
    def trained_context(self) -> int:
        return int(llama.llama_model_n_ctx_train(self._model))

    @property
    def parameters(self) -> int:
        return int(llama.llama_model_n_params(self._model))

    @property
    def weight_bytes(self) -> int:
        return int(llama.llama_model_size(self._model))

    def decode(self, spans: Sequence[Span]) -> None:
        self._table = None
        self._rows = self._batch.fill(spans)
        begun = time.monotonic()
        status = llama.llama_decode(self.context, self._batch.native)
        if status != 0:
            raise InternalError(f"llama_decode answered {status} for {self._batch.native.n_tokens} tokens")
        if self._cores is not None and self._cores.computed(time.monotonic() - begun):
            llama.llama_set_n_threads(self.context, self._cores.count, self._cores.count)

    def batch_index(self, row: int) -> int:
        """Where the `row`-th requested logits stand in the batch of the last decode."""
        return self._rows[row]

    def logits(self, row: int) -> Logits:
        if self._table is None:
            pointer = llama.llama_get_logits(self.context)
            self._table = np.ctypeslib.as_array(pointer, shape=(len(self._rows), self.vocabulary.size))
        view: Logits = self._table[row]
        return view

    def sampler(self, params: SamplingParams, seed: int) -> LlamaSampler:
        return LlamaSampler(self, params, seed)

    def share(self, source: int, target: int, length: int) -> None:
        llama.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, sequence: int, start: int = 0) -> None:
        if not llama.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise InternalError(f"the cache cannot forget sequence {sequence} from position {start}")

    def length(self, sequence: int) -> int:
        return int(llama.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def save(self, sequence: int, start: int, length: int) -> Content:
        llama.llama_memory_seq_cp(self._memory, sequence, self._passage, start, start + length)
        try:
            size = llama.llama_state_seq_get_size(self.context, self._passage)
            content = np.empty(size, np.uint8)
            written = llama.llama_state_seq_get_data(self.context, _bytes(content), size, self._passage)
            if written != size:
                raise InternalError(f"llama.cpp wrote {written} bytes of a state of {size}")
            return content
        finally:
            llama.llama_memory_seq_rm(self._memory, self._passage, -1, -1)

    def restore(self, sequence: int, start: int, length: int, content: Content) -> bool:
        read = llama.llama_state_seq_set_data(self.context, _bytes(content), len(content), self._passage)
        if read == len(content):
            llama.llama_memory_seq_cp(self._memory, self._passage, sequence, start, start + length)
        llama.llama_memory_seq_rm(self._memory, self._passage, -1, -1)
        return bool(read == len(content)) and self.length(sequence) == start + length

    def close(self) -> None:
        llama.llama_free(self.context)
        if self._owns_model:
            llama.llama_model_free(self._model)


def _bytes(content: Content) -> object:
    return content.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class _Batch:
    """One llama_batch over arrays of our own, refilled every step without allocating."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ConfigError("generator.batch_tokens must be at least 1")
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        base, width = self._sequences.ctypes.data, self._sequences.itemsize
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * capacity)(
            *(ctypes.cast(base + index * width, ctypes.POINTER(ctypes.c_int32)) for index in range(capacity))
        )
        batch = self.native = llama.llama_batch()
        batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.n_seq_id = self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._pointers
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, spans: Sequence[Span]) -> list[int]:
        """Lays the spans out one behind the other; returns the indices of the wanted logits."""
        at = 0
        rows: list[int] = []
        for span in spans:
            end = at + len(span.tokens)
            self._tokens[at:end] = span.tokens
            self._positions[at:end] = range(span.start, span.start + len(span.tokens))
            self._sequences[at:end] = span.sequence
            self._wanted[at:end] = 0
            if span.rows:
                self._wanted[end - span.rows : end] = 1
                rows.extend(range(end - span.rows, end))
            at = end
        self.native.n_tokens = at
        return rows
