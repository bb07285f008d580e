"""A loaded encoder model: graph, tokenizer and the facts its manifest pinned, checked against each other.

Shared by `embed` and `rerank`, which know what goes in and what the output means; this module knows neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.encoders.rows import Row, pad, single_row
from appliance.encoders.session import BACKEND, Session
from appliance.encoders.tokenizer import Tokenizer
from appliance.errors import HearthError, InternalError, SetupError
from appliance.launch import EncoderModel
from appliance.records import ModelFacts

KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
NEEDED_INPUTS = frozenset({"input_ids", "attention_mask"})

LONGEST_PROBE = 512  # attention grows with the square: a longer probe would cost seconds at start


class LoadedModel:
    def __init__(self, model: EncoderModel, *, rank: int, threads: int) -> None:
        """Load graph and tokenizer and run them once. `rank` is the output's number of axes.

        Raises SetupError when a file is unusable, or graph, tokenizer and facts do not belong together.
        """
        begun = time.monotonic()
        self.model = model
        self.tokenizer = Tokenizer(model.tokenizer, offset=model.tokenizer_offset, size=model.tokenizer_bytes)
        self._session = Session(
            model.weights, offset=model.weights_offset, size=model.weights_bytes, threads=threads
        )
        self._inputs = self._check_inputs()
        self._output = self._find_output(rank)
        self.width = self._probe()
        self._load_seconds = time.monotonic() - begun

    def run(
        self, rows: Sequence[Row], *, frees: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The graph's output, [rows, ...], and the mask [rows, longest row] that marks real tokens.

        Raises InternalError when the library fails or the output is not finite.
        """
        feeds = pad(rows, self.model.pad_token, KNOWN_INPUTS)
        output = self._session.run({name: feeds[name] for name in self._inputs}, self._output, frees=frees)
        if not np.isfinite(output).all():
            raise InternalError(f"{self.model.name}: the model gave values that are not finite numbers")
        return output, feeds["attention_mask"]

    def facts(self, dimensions: int = 0) -> ModelFacts:
        return ModelFacts(
            name=self.model.name,
            role=self.model.role,
            context_length=self.model.max_tokens,
            vocabulary=self.tokenizer.vocabulary,
            dimensions=dimensions,
            weight_bytes=self.model.weights_bytes or os.stat(self.model.weights).st_size,
            backend=BACKEND,
            load_seconds=self._load_seconds,
        )

    def _check_inputs(self) -> tuple[str, ...]:
        inputs = self._session.inputs
        if not NEEDED_INPUTS <= inputs.keys() <= KNOWN_INPUTS:
            raise SetupError(
                f"{self.model.name}: the graph takes {_listed(inputs)}; expected input_ids,"
                " attention_mask and, at most, token_type_ids"
            )
        return tuple(inputs)

    def _find_output(self, rank: int) -> str:
        outputs, wanted = self._session.outputs, self.model.output
        if wanted:
            if wanted not in outputs:
                raise SetupError(
                    f"{self.model.name}: the graph has no output {wanted}; it has {_listed(outputs)}"
                )
            if len(outputs[wanted]) != rank:
                raise SetupError(
                    f"{self.model.name}: the output {wanted} has {len(outputs[wanted])} axes; expected {rank}"
                )
            return wanted
        fitting = [name for name, shape in outputs.items() if len(shape) == rank]
        if len(fitting) != 1:
            raise SetupError(
                f"{self.model.name}: the graph's outputs are {_listed(outputs)}; expected one of {rank} axes,"
                " or a manifest that names the output"
            )
        name: str = fitting[0]
        return name

    def _probe(self) -> int:
        """Run the longest row with the highest token id; the size of the output's last axis.

        A tokenizer of another model, a limit beyond the graph's positions and a wrong output all show here
        instead of in somebody's request.
        """
        length = min(self.model.max_tokens, LONGEST_PROBE)
        row = single_row([self.tokenizer.vocabulary - 1] * length)
        try:
            output, _ = self.run([row], frees=True)
        except HearthError as error:
            raise SetupError(
                f"{self.model.name}: the graph does not run {length} tokens with ids up to"
                f" {self.tokenizer.vocabulary - 1}; its weights, tokenizer and max_tokens do not belong"
                f" together: {error.message}"
            ) from error
        return int(output.shape[-1])


def _listed(names: object) -> str:
    return ", ".join(sorted(map(str, names))) if isinstance(names, dict) and names else "none"
