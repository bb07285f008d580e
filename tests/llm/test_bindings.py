"""llama.cpp behind the seam, with the real SmolLM2-135M: what the scheduler's tests take from the fake."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.errors import InternalError, SetupError
from appliance.launch import GeneratorOrder
from appliance.llm import bindings
from appliance.llm.backend import Span
from appliance.llm.engine import Engine
from appliance.llm.native import LlamaBackend
from appliance.llm.plan import Limits
from appliance.llm.request import Admit
from appliance.llm.sampling import logprobs
from appliance.llm.scheduler import Scheduler
from appliance.records import Ended, Event, SamplingParams, Step
from models.store import Store
from tests.serving import CHAT, missing_models, store_directory

TEXTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):",
    "Water boils at",
    "The three laws of robotics are:",
]
# Batches of another size may take other kernels; seen: 0.5 where logits reach 32. Another text differs by 5.
ROUNDING = 1.0

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def weights() -> Path:
    if missing_models([CHAT]):
        pytest.skip(f"{CHAT} is not in the model store {store_directory()}; `make test` gets it")
    return Store(store_directory()).path(CHAT, "model.gguf")


@pytest.fixture(scope="module")
def loaded(weights: Path) -> Iterator[tuple[LlamaBackend, list[float]]]:
    bindings.load_compute_backends()
    reports: list[float] = []
    order = GeneratorOrder(name="smol", weights=str(weights), threads=1, slots=8, batch_tokens=256)
    backend = LlamaBackend(order, 512, reports.append)
    yield backend, reports
    backend.close()


@pytest.fixture
def backend(loaded: tuple[LlamaBackend, list[float]]) -> LlamaBackend:
    backend, _ = loaded
    for sequence in range(backend.sequences):
        backend.forget(sequence)
    return backend


def tokens_of(backend: LlamaBackend, text: str) -> list[int]:
    return backend.vocabulary.tokenize(text, add_bos=True, parse_special=False)


def compute(backend: LlamaBackend, sequence: int, tokens: Sequence[int], start: int = 0) -> Floats:
    """The logits after `tokens`, put into `sequence` at `start`."""
    backend.decode([Span(sequence, start, tokens, 1)])
    return backend.logits(0).copy()


def greedy(backend: LlamaBackend, prompts: list[list[int]], count: int) -> list[list[int]]:
    """`count` tokens after each prompt: prompts one by one, then all sequences in one batch per step."""
    answers = [[int(compute(backend, at, prompt).argmax())] for at, prompt in enumerate(prompts)]
    for _ in range(count - 1):
        spans = [
            Span(at, len(prompt) + len(answer) - 1, answer[-1:], 1)
            for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        ]
        backend.decode(spans)
        for at, answer in enumerate(answers):
            answer.append(int(backend.logits(at).argmax()))
    for sequence in range(len(prompts)):
        backend.forget(sequence)
    return answers


def test_loading_reports_its_progress_and_says_what_was_loaded(
    loaded: tuple[LlamaBackend, list[float]],
) -> None:
    backend, reports = loaded
    assert reports == sorted(reports)
    assert reports[-1] == 1.0
    assert len(reports) > 10
    assert backend.model.trained_context == 8192
    assert backend.model.parameters == 134_515_008
    assert 90_000_000 < backend.model.weight_bytes < 100_000_000
    assert backend.vocabulary.size == 49_152
    assert backend.vocabulary.eos_text == "<|im_end|>"
    assert "<|im_start|>" in (backend.vocabulary.chat_template or "")
    assert bindings.compute_devices()[0].startswith("CPU")


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox — it's quick!",
        "你好，世界。今天天气很好",
        "🧑‍🚀 lifts off 🇩🇪",
        "tab\tand\r\nnew\n\n\nlines",
        "x" * 3000,
        "\x00\x01 control",
        "<|im_end|>",
    ],
)
def test_tokens_and_pieces_round_trip(backend: LlamaBackend, text: str) -> None:
    vocabulary = backend.vocabulary
    tokens = vocabulary.tokenize(text, add_bos=False, parse_special=False)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text
    assert all(len(vocabulary.literal(token)) <= vocabulary.longest_token for token in tokens)


def test_control_tokens_have_texts_but_write_nothing(backend: LlamaBackend) -> None:
    vocabulary = backend.vocabulary
    (token,) = vocabulary.tokenize("<|im_end|>", add_bos=False, parse_special=True)
    assert vocabulary.piece(token) == b""
    assert vocabulary.literal(token) == b"<|im_end|>"
    assert vocabulary.ends_generation(token)
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(vocabulary.special_texts())
    for text in vocabulary.special_texts():
        whole = vocabulary.tokenize(text, add_bos=False, parse_special=True)
        assert len(whole) == 1
        for part in (text[0], text[1:]):
            assert whole[0] not in vocabulary.tokenize(part, add_bos=False, parse_special=True)


def test_greedy_answers_in_company_are_those_alone(backend: LlamaBackend) -> None:
    prompts = [tokens_of(backend, text) for text in TEXTS]
    together = greedy(backend, prompts, 24)
    assert together == [greedy(backend, [prompt], 24)[0] for prompt in prompts]
    assert "Paris" in b"".join(map(backend.vocabulary.piece, together[0])).decode()


def test_one_decoding_step_is_the_same_in_company(backend: LlamaBackend) -> None:
    prompts = [tokens_of(backend, text) for text in TEXTS]
    alone = []
    for prompt in prompts:
        backend.decode([Span(0, 0, prompt[:-1], 0)])
        alone.append(compute(backend, 0, prompt[-1:], len(prompt) - 1))
        backend.forget(0)
    for at, prompt in enumerate(prompts):
        backend.decode([Span(at, 0, prompt[:-1], 0)])
    backend.decode([Span(at, len(p) - 1, p[-1:], 1) for at, p in enumerate(prompts)])
    for at, expected in enumerate(alone):
        assert np.abs(backend.logits(at) - expected).max() < ROUNDING


def test_shared_cells_give_the_logits_of_computing_anew(backend: LlamaBackend) -> None:
    beginning = tokens_of(backend, TEXTS[1] * 4)
    ends = [tokens_of(backend, text) for text in TEXTS]
    anew = []
    for end in ends:
        backend.decode([Span(9, 0, beginning, 0)])
        anew.append(compute(backend, 9, end, len(beginning)))
        backend.forget(9)
    backend.decode([Span(0, 0, beginning + ends[0], 0)])
    for at in range(1, len(ends) + 1):
        backend.share(0, at, len(beginning))
    backend.forget(0)
    for at, end in enumerate(ends, start=1):
        logits = compute(backend, at, end, len(beginning))
        assert np.abs(logits - anew[at - 1]).max() < ROUNDING
        assert all(np.abs(logits - other).max() > 5 for other in anew[: at - 1])
    # What is shared is not changed by those who share it.
    assert np.abs(compute(backend, 8, beginning + ends[0]) - anew[0]).max() < ROUNDING


def test_forgetting_the_end_keeps_the_beginning(backend: LlamaBackend) -> None:
    beginning, first, second = (tokens_of(backend, text) for text in TEXTS[:3])
    backend.decode([Span(0, 0, beginning, 0)])
    expected = compute(backend, 0, second, len(beginning))
    backend.forget(0)
    backend.decode([Span(0, 0, beginning, 0)])
    backend.decode([Span(0, len(beginning), first, 0)])
    backend.forget(0, len(beginning))
    assert np.abs(compute(backend, 0, second, len(beginning)) - expected).max() < ROUNDING


def test_a_prompt_in_chunks_gives_the_same_next_token(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend, TEXTS[1] * 8)
    whole = compute(backend, 0, prompt)
    for size in (16, 70):
        for start in range(0, len(prompt), size):
            logits = compute(backend, 1, prompt[start : start + size], start)
        backend.forget(1)
        assert np.abs(logits - whole).max() < ROUNDING
        assert logits.argmax() == whole.argmax()


def test_a_refused_batch_is_an_internal_error_and_harms_nobody(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend, TEXTS[0])
    expected = compute(backend, 0, prompt)
    with pytest.raises(InternalError, match="llama_decode"):
        backend.decode([Span(1, 50, prompt, 1), Span(1, 0, prompt, 1)])  # positions run backwards
    for at in (1, 2):
        backend.decode([Span(at, 0, prompt * 46, 0)])
    with pytest.raises(InternalError, match="llama_decode"):  # 512 cells are not enough for 3 of these
        backend.decode([Span(3, 0, prompt * 46, 0)])
    for at in (1, 2, 3):
        backend.forget(at)
    backend.forget(0, len(prompt) - 1)
    assert np.abs(compute(backend, 0, prompt[-1:], len(prompt) - 1) - expected).max() < ROUNDING


def pick(backend: LlamaBackend, params: SamplingParams, seed: int = 1, count: int = 1) -> list[int]:
    """`count` tokens for the same logits, those after "The capital of France is"."""
    compute(backend, 0, tokens_of(backend, TEXTS[0]))
    sampler = backend.sampler(params, seed)
    picked = [sampler.pick(0) for _ in range(count)]
    sampler.close()
    sampler.close()
    backend.forget(0)
    return picked


def test_greedy_takes_the_most_likely(backend: LlamaBackend) -> None:
    best = int(compute(backend, 0, tokens_of(backend, TEXTS[0])).argmax())
    backend.forget(0)
    assert pick(backend, SamplingParams(temperature=0.0)) == [best]
    assert pick(backend, SamplingParams(temperature=1.0, top_k=1), count=3) == [best] * 3
    assert pick(backend, SamplingParams(temperature=1.0, top_p=1e-6), count=3) == [best] * 3
    assert pick(backend, SamplingParams(temperature=5.0, min_p=1.0), count=3) == [best] * 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logit_bias_forbids_and_forces(backend: LlamaBackend, temperature: float) -> None:
    best = pick(backend, SamplingParams(temperature=0.0))[0]
    forced = pick(backend, SamplingParams(temperature=temperature, logit_bias={1234: 100.0}), count=5)
    assert forced == [1234] * 5
    params = SamplingParams(temperature=temperature, logit_bias={best: -100.0, 0: -100.0})
    assert best not in pick(backend, params, count=30)


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"repeat_penalty": 1.5}]
)
def test_penalties_count_what_was_picked(backend: LlamaBackend, penalty: dict[str, float]) -> None:
    """Each pick makes its token less likely, so greedy choice moves on to one nearly as likely."""
    logits = compute(backend, 0, tokens_of(backend, TEXTS[0]))
    backend.forget(0)
    second, best = np.argsort(logits)[-2:]
    bias = {int(second): float(logits[best] - logits[second]) - 1.0}
    assert len(set(pick(backend, SamplingParams(temperature=0.0, logit_bias=bias), count=6))) == 1
    params = SamplingParams(temperature=0.0, logit_bias=bias, **penalty)  # type: ignore[arg-type]
    assert len(set(pick(backend, params, count=6))) > 1


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_seeds_repeat(backend: LlamaBackend, seed: int) -> None:
    params = SamplingParams(temperature=1.5)
    first = pick(backend, params, seed, count=20)
    assert first == pick(backend, params, seed, count=20)
    assert first != pick(backend, params, 12345, count=20)
    assert len(set(first)) > 3


def test_the_draw_follows_the_probabilities(backend: LlamaBackend) -> None:
    logits = compute(backend, 0, tokens_of(backend, TEXTS[0]))
    backend.forget(0)
    best = int(logits.argmax())
    expected = float(np.exp(logprobs(logits, best, 0, lambda token: b"").logprob))
    share = pick(backend, SamplingParams(temperature=1.0), count=600).count(best) / 600
    assert abs(share - expected) < 0.08


def chat(backend: LlamaBackend, question: str) -> list[int]:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return backend.vocabulary.tokenize(text, add_bos=True, parse_special=True)


def test_the_engine_serves_it(backend: LlamaBackend) -> None:
    """Six requests at once over three slots, one with a fork, and text that is whole in every frame."""
    limits = Limits(
        slots=3, cells=backend.cells, sequences=backend.sequences, batch_tokens=backend.batch_tokens,
        busy_prefill_tokens=24, queue_requests=10, queue_tokens=10_000,
    )  # fmt: skip
    events: list[Event] = []
    engine = Engine(backend, Scheduler(limits), events.append)
    questions = [
        "What is the capital of France?",
        "Write three emoji: 🐱",
        "Say hello in Chinese: 你好",
        "1+1?",
        "Hi",
    ]
    for id, question in enumerate(questions, start=1):
        prompt = chat(backend, question)
        bias = dict.fromkeys(tokens_of(backend, "🐱你"), 12.0) if id == 2 else {}
        engine.inbox.put(
            Admit(
                id=id,
                prompt=prompt,
                sampling=SamplingParams(temperature=0.0, logit_bias=bias, top_logprobs=1),
                choices=2 if id == 1 else 1,
                seed=1,
                limit=len(prompt) + 16,
                arrived=0.0,
                deadline=None,
            )
        )
    for _ in range(400):
        if engine.scheduler.is_idle and engine.inbox.empty():
            break
        engine.take_commands()
        engine.step()
        engine.scheduler.check()
    assert sorted(event.id for event in events if isinstance(event, Ended)) == [1, 2, 3, 4, 5]
    deltas = [delta for event in events if isinstance(event, Step) for delta in event.deltas]
    texts: dict[tuple[int, int], str] = {}
    for delta in deltas:
        key = (delta.id, delta.choice)
        texts[key] = texts.get(key, "") + delta.text
        assert "�" not in delta.text or delta.finish_reason == "length"
        assert all(lp.top[0].logprob <= 0 and lp.logprob <= lp.top[0].logprob for lp in delta.logprobs)
    assert "Paris" in texts[1, 0]
    assert texts[1, 0] == texts[1, 1]
    assert len(texts[2, 0].encode()) > len(texts[2, 0]), "the biased answer has characters of several bytes"
    for sequence in range(backend.sequences):
        backend.forget(sequence)


def test_weights_are_mapped_in_place_out_of_a_larger_file(weights: Path, tmp_path: Path) -> None:
    carrier = tmp_path / "executable"
    offset = 3 * 65536
    with carrier.open("wb") as file, weights.open("rb") as source:
        file.write(b"\x7fELF and whatever else".ljust(offset, b"\0"))
        shutil.copyfileobj(source, file)
        file.write(b"an archive behind it")
    bindings.load_compute_backends()
    order = GeneratorOrder(name="carried", weights=str(carrier), weights_offset=offset, threads=1, slots=1)
    backend = LlamaBackend(order, 256, lambda fraction: None)
    try:
        (mapping, *_) = [
            line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(carrier) in line
        ]
        low, high = (int(address, 16) for address in mapping[0].split("-"))
        assert offset <= int(mapping[2], 16) < offset + 4_000_000, "the header's pages are given back"
        assert high - low > 0.9 * backend.model.weight_bytes
        assert (
            "Paris"
            in b"".join(
                map(backend.vocabulary.piece, greedy(backend, [tokens_of(backend, TEXTS[0])], 6)[0])
            ).decode()
        )
    finally:
        backend.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "no magic", "cut header", "cut weights"])
def test_a_file_that_is_no_model_is_a_setup_error(weights: Path, tmp_path: Path, damage: str) -> None:
    bindings.load_compute_backends()
    broken = tmp_path / "broken.gguf"
    if damage != "missing":
        with weights.open("rb") as source:
            head = source.read(4 << 20)
        content = {
            "empty": b"",
            "no magic": b"nope" + head[4:],
            "cut header": head[:1000],
            "cut weights": head,
        }
        broken.write_bytes(content[damage])
    with pytest.raises(SetupError, match="broken-model") as caught:
        LlamaBackend(GeneratorOrder(name="broken-model", weights=str(broken)), 256, lambda fraction: None)
    assert "no reason given" not in caught.value.message


def test_a_cache_that_does_not_fit_is_a_setup_error(weights: Path) -> None:
    program = (
        "import sys\n"
        "from appliance.errors import SetupError\n"
        "from appliance.launch import GeneratorOrder\n"
        "from appliance.llm import bindings, native\n"
        "bindings.load_compute_backends()\n"
        "try:\n"
        "    order = GeneratorOrder(name='greedy', weights=sys.argv[1], threads=1, slots=1)\n"
        "    native.LlamaBackend(order, 1_000_000, lambda fraction: None)\n"
        "except SetupError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(weights)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
        check=False,
    )
    assert "no memory for a cache of 1000000 tokens" in done.stdout, done.stderr[-2000:]


def test_stored_keys_and_values_come_back_as_they_were(backend: LlamaBackend) -> None:
    tokens = tokens_of(backend, "A prefix of some length that is computed once and then put away. " * 6)
    size = 32
    whole = len(tokens) // size * size
    compute(backend, 0, tokens[: whole + 1])
    backend.share(0, 1, whole)
    expected = compute(backend, 1, [tokens[whole]], whole)
    contents = [backend.save(0, start, size) for start in range(0, whole, size)]
    backend.forget(0)
    backend.forget(1)
    assert backend.length(0) == 0
    for number, content in enumerate(contents):
        assert backend.restore(2, number * size, size, content)
    assert backend.length(2) == whole
    assert np.array_equal(compute(backend, 2, [tokens[whole]], whole), expected), "bit by bit"
    backend.forget(2)


def test_what_is_no_state_is_refused_and_changes_nothing(backend: LlamaBackend) -> None:
    tokens = tokens_of(backend, TEXTS[0])
    before = compute(backend, 0, tokens).copy()
    content = backend.save(0, 0, len(tokens) // 2)
    assert not backend.restore(1, 0, len(tokens) // 2, content[: len(content) // 2].copy())
    assert backend.length(1) == 0
    backend.forget(0, len(tokens) - 1)
    assert abs(compute(backend, 0, tokens[-1:], len(tokens) - 1) - before).max() < 1.0
    backend.forget(0)
