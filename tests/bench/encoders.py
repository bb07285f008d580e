"""Encoder throughput: the real encoder process against a bare onnxruntime loop over the same texts.

Run from the repository's root:

    python -m tests.bench.encoders [--model minilm|e5|reranker] [--rounds 5] [--batch-tokens 512]

The bare loop tokenises, sorts by length, fills batches to the same token budget, runs the graph and pools:
once with the library's default options and once, "tuned", with ours. The process gets the texts through
frames on a socketpair, once as one request and once as many requests at the same time. Rounds are interleaved
(bare, tuned, one, many, bare, …), figures are medians. For MiniLM the Spearman correlation on STS-B is added.
The last line is JSON.

The texts are XQuAD's English paragraphs and questions, from `../shared/data` or `--data`.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.encoder import usable_cores
from appliance.launch import EncoderModel, EncoderOrder
from appliance.records import Embed, Embeddings, Measure, Rerank, Scores, WorkerStats
from tests.encoders.conftest import E5, MINILM, RERANKER, EncoderProcess, find

MODELS = {model.name: model for model in (MINILM, E5, RERANKER)}
DATA = Path(__file__).parents[2].parent / "shared" / "data"
CLIENT_TEXTS = 4  # texts in each of the many requests
PAUSE = 0.3  # seconds; the library's default threads spin on for a while and would slow the next contender
QUERY = "Which university did he attend?"


class BareLoop:
    """What a careful user would write without Hearth."""

    def __init__(self, model: EncoderModel, batch_tokens: int, threads: int, tuned: bool) -> None:
        import tokenizers

        from appliance.encoders.session import configure, ort  # with its telemetry switched off

        options = configure(threads) if tuned else ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(model.weights, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._tokenizer = tokenizers.Tokenizer.from_file(model.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._model, self._batch_tokens = model, batch_tokens

    def run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._model.role == "rerank":
            encodings = self._tokenizer.encode_batch([(QUERY, text) for text in texts])
        else:
            encodings = self._tokenizer.encode_batch([self._model.passage_prefix + text for text in texts])
        order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
        results = []
        while order:
            longest = len(encodings[order[0]].ids)
            count = max(1, self._batch_tokens // longest)
            batch, order = order[:count], order[count:]
            results.append(self._run_batch([encodings[place] for place in batch], longest))
        return np.concatenate(results)

    def _run_batch(self, batch: Sequence[object], longest: int) -> NDArray[np.float32]:
        feeds = {name: np.zeros((len(batch), longest), np.int64) for name in self._inputs}
        feeds["input_ids"][:] = self._model.pad_token
        for row, encoding in enumerate(batch):
            size = len(encoding.ids)
            feeds["input_ids"][row, :size] = encoding.ids
            feeds["attention_mask"][row, :size] = 1
            if "token_type_ids" in feeds:
                feeds["token_type_ids"][row, :size] = encoding.type_ids
        output = self._session.run(None, feeds)[0]
        if self._model.role == "rerank":
            return output
        weights = feeds["attention_mask"][:, :, None].astype(np.float32)
        pooled = (output * weights).sum(axis=1) / weights.sum(axis=1)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


class Served:
    """The same work through a real encoder process."""

    def __init__(self, model: EncoderModel, batch_tokens: int, threads: int) -> None:
        self._model = model
        self._encoder = EncoderProcess(
            EncoderOrder(models=(model,), batch_tokens=batch_tokens, threads=threads, queue_requests=10_000)
        )
        self._encoder.wait_ready()
        self._id = 0

    def run(self, texts: Sequence[str], per_request: int) -> list[Embeddings | Scores]:
        """All texts, `per_request` in each of as many requests as that takes, sent together."""
        parts = [tuple(texts[at : at + per_request]) for at in range(0, len(texts), per_request)]
        first = self._id + 1
        self._encoder.send(*(self._command(part) for part in parts))
        replies = {}
        for _ in parts:
            reply = self._encoder.receive()
            assert isinstance(reply, (Embeddings, Scores)), reply
            replies[reply.id] = reply
        return [replies[id] for id in range(first, first + len(parts))]

    def stats(self) -> WorkerStats:
        self._encoder.send(Measure(id=0))
        stats = self._encoder.receive()
        assert isinstance(stats, WorkerStats)
        return stats

    def close(self) -> None:
        self._encoder.close()

    def _command(self, texts: tuple[str, ...]) -> Embed | Rerank:
        self._id += 1
        if self._model.role == "rerank":
            return Rerank(id=self._id, model=self._model.name, query=QUERY, documents=texts)
        return Embed(id=self._id, model=self._model.name, inputs=texts)


def read_texts(data: Path, limit: int) -> list[str]:
    """Paragraphs and questions in the file's own order, cut to what the smallest model takes."""
    articles = json.loads((data / "xquad.en.json").read_text())["data"]
    texts = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            texts.append(" ".join(paragraph["context"].split()[:120]))
            texts.extend(entry["question"] for entry in paragraph["qas"][:2])
    return texts[:limit]


def spearman_on_sts(served: Served, data: Path) -> float:
    """Spearman correlation of cosine and human score over STS-B's test pairs."""
    with (data / "stsb-en-test.csv").open(newline="") as file:
        pairs = list(csv.reader(file))
    texts = [text for pair in pairs for text in pair[:2]]
    (reply,) = served.run(texts, len(texts))
    assert isinstance(reply, Embeddings)
    vectors = np.frombuffer(reply.vectors, "<f4").reshape(len(texts), -1)
    cosines = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    human = np.array([float(pair[2]) for pair in pairs])
    return float(np.corrcoef(ranks(cosines), ranks(human))[0, 1])


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(model: EncoderModel, texts: Sequence[str], arguments: argparse.Namespace) -> dict[str, object]:
    threads = usable_cores()
    bare, tuned = (BareLoop(model, arguments.batch_tokens, threads, tuned) for tuned in (False, True))
    served = Served(model, arguments.batch_tokens, threads)
    contenders: dict[str, Callable[[], object]] = {
        "bare": lambda: bare.run(texts),
        "tuned": lambda: tuned.run(texts),
        "one_request": lambda: served.run(texts, len(texts)),
        "many_requests": lambda: served.run(texts, CLIENT_TEXTS),
    }
    try:
        for work in contenders.values():
            work()  # warm arenas and caches
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for round in range(arguments.rounds):
            for name, work in contenders.items():
                time.sleep(PAUSE)
                times[name].append(seconds(work))
            print(
                f"{model.name} round {round + 1}:",
                *(f"{n} {t[-1]:.2f} s" for n, t in times.items()),
                flush=True,
            )
        figures: dict[str, object] = {"model": model.name, "texts": len(texts), "threads": threads}
        figures["batch_tokens"] = arguments.batch_tokens
        for name, taken in times.items():
            figures[f"{name}_texts_per_second"] = round_figure(len(texts) / statistics.median(taken))
        for reference in ("bare", "tuned"):
            for name in ("one_request", "many_requests"):
                ratios = [b / s for b, s in zip(times[reference], times[name], strict=True)]
                figures[f"{name}_to_{reference}"] = round_figure(statistics.median(ratios))
        if model.name == "minilm" and (arguments.data / "stsb-en-test.csv").is_file():
            figures["stsb_spearman"] = round_figure(spearman_on_sts(served, arguments.data))
        return figures
    finally:
        served.close()


def round_figure(value: float) -> float:
    return float(f"{value:.4g}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="encoder throughput against a bare onnxruntime loop")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all that are installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args(argv)
    if not (arguments.data / "xquad.en.json").is_file():
        print(f"skipped: {arguments.data} has no xquad.en.json")
        return 0
    texts = read_texts(arguments.data, arguments.texts)
    results = []
    for name in arguments.model or MODELS:
        model = find(MODELS[name])
        if model is None:
            print(f"skipped: {name} is not in the model store")
            continue
        results.append(measure(model, texts, arguments))
        print(json.dumps(results[-1]), flush=True)
    print(json.dumps({"benchmark": "encoders", "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
