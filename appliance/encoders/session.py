"""One ONNX graph, loaded and ready to run: the only import of onnxruntime.

Owns how the library is loaded and configured. It knows neither tokens nor vectors: callers feed int64 arrays
by input name and read one float32 output.

Choices, each measured on two cores with the starter models:
- no memory pattern: it keeps a plan per input shape, and batches come in thousands of shapes (573 → 367 MB);
- the arena stays on: without it every run maps its buffers anew (4,500 → 3,200 tokens/s); what one large run
  took can be given back after it (`frees`), which is worth 70 MB to a model that was only probed;
- waiting threads spin for 100 µs at most and never between runs. The library's own default made a busy
  machine's reranker 1.7 times slower; no spinning at all costs an idle machine's reranker an eighth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from appliance.errors import InternalError, SetupError

# Read by onnxruntime while it is imported; otherwise it opens sockets and writes a device id.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

BACKEND = f"onnxruntime {ort.__version__} CPU"

SPIN_MICROSECONDS = "100"

_FATAL_ONLY = 4  # errors reach us as exceptions; the library would print each of them as well
_NO_FOLDER = "/nonexistent"  # where external data would be looked for


class Session:
    """A loaded graph. `inputs` and `outputs` map names to shapes; a free dimension is None."""

    def __init__(self, weights: str, *, offset: int = 0, size: int = 0, threads: int = 0) -> None:
        """Load the ONNX model at `offset` of the file `weights`; `size` 0 means to the file's end.

        `threads` 0 leaves the number to the library. Raises SetupError when the file cannot be read, is no
        model that the library runs, keeps tensors in other files, or takes inputs other than int64.
        """
        self._label = weights if not offset else f"{weights} at byte {offset}"
        self._session = _load(self._label, _copy_to_memory(weights, offset, size), configure(threads))
        self.inputs = {entry.name: _shape(entry) for entry in self._session.get_inputs()}
        self.outputs = {entry.name: _shape(entry) for entry in self._session.get_outputs()}
        for entry in self._session.get_inputs():
            if entry.type != "tensor(int64)":
                raise SetupError(
                    f"{self._label}: input {entry.name} is a {entry.type}; expected tensor(int64)"
                )

    def run(
        self, feeds: Mapping[str, NDArray[np.int64]], output: str, *, frees: bool = False
    ) -> NDArray[np.float32]:
        """The named output for these inputs; `frees`: memory that only this run needed is given back.

        Raises InternalError when the library fails.
        """
        options = ort.RunOptions()
        if frees:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            (result,) = self._session.run([output], dict(feeds), options)
        except Exception as error:  # the library's exceptions share no narrower base
            raise InternalError(f"{self._label}: the model could not be run: {error}") from error
        return np.asarray(result, dtype=np.float32)


def library_version() -> str:
    """onnxruntime's version and the providers that this build can use."""
    return f"{ort.__version__} ({', '.join(ort.get_available_providers())})"


def configure(threads: int) -> ort.SessionOptions:
    """The options of every session here; see the module's choices."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    return options


def _copy_to_memory(path: str, offset: int, size: int) -> int:
    """A descriptor of an unnamed memory file holding the bytes; the caller closes it.

    The library opens whole files only, and keeps a second copy of models given as bytes. A memory file serves
    any part of any file, is freed after the load, and has no neighbours that external data could name.
    """
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            end = os.fstat(source).st_size
            remaining = size or end - offset
            if offset < 0 or remaining <= 0 or offset + remaining > end:
                raise SetupError(
                    f"{path}: {remaining} bytes from byte {offset} on are not in this file of {end} bytes"
                )
            memory = os.memfd_create("model")
            while remaining:
                copied = os.sendfile(memory, source, offset, remaining)
                if not copied:
                    raise SetupError(f"{path}: the file became shorter while it was read")
                offset += copied
                remaining -= copied
            return memory
        finally:
            os.close(source)
    except OSError as error:
        raise SetupError(f"{path}: the model cannot be read: {error.strerror}") from error


def _load(label: str, memory: int, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(
            f"/proc/self/fd/{memory}", options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # the library's exceptions share no narrower base
        raise SetupError(f"{label}: not a model that can be loaded: {error}") from error
    finally:
        os.close(memory)


def _shape(entry: ort.NodeArg) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in entry.shape)
