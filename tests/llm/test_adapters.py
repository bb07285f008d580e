"""LoRA adapters in the engine: batches of one adapter each, cells never shared between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.launch import AdapterFile, GeneratorOrder
from appliance.llm import bindings, native
from appliance.llm.backend import Span
from appliance.llm.fake import adapter_shift, checksum_token
from appliance.llm.request import Admit
from appliance.records import SamplingParams
from models.store import Store
from tests import tiny_model
from tests.conftest import require
from tests.serving import CHAT, store_directory
from tests.tiny_adapter import adapter_gguf

PROMPT = "a beginning that all of them have in common, and some more"


def ask(rig: Any, id: int, adapter: str, text: str = PROMPT, max_tokens: int = 12) -> None:
    prompt = list(text.encode())
    rig.engine.inbox.put(
        Admit(
            id=id,
            prompt=prompt,
            sampling=SamplingParams(temperature=0.0, max_tokens=max_tokens),
            choices=1,
            seed=1,
            limit=len(prompt) + max_tokens,
            arrived=rig.now,
            deadline=None,
            adapter=adapter,
            namespace=f"lora:{adapter}" if adapter else "",
        )
    )


def alone(adapter: str, text: str = PROMPT, max_tokens: int = 12) -> str:
    """What the fake model says when every token was computed with this adapter."""
    history = [byte + adapter_shift(adapter) for byte in text.encode()]
    said = ""
    for _ in range(max_tokens):
        token = checksum_token(history)
        said += chr(token)
        history.append(token + adapter_shift(adapter))
    return said


def test_every_batch_is_of_one_adapter_and_each_answer_is_its_own(rig: Any) -> None:
    bench = rig(slots=4, cells=1024)
    batches: list[set[str]] = []

    def watch(spans: Sequence[Span]) -> None:
        slots = {sequence.slot: sequence.adapter for sequence in bench.scheduler.running}
        batches.append({slots[span.sequence] for span in spans})

    bench.backend.before_decode = watch
    for id, adapter in enumerate(("", "poet", "clerk", "poet", ""), 1):
        ask(bench, id, adapter)
    bench.run()
    assert all(len(adapters) == 1 for adapters in batches)
    assert {adapter for adapters in batches for adapter in adapters} == {"", "poet", "clerk"}
    answers = {id: bench.text(id) for id in range(1, 6)}
    assert answers == {
        1: alone(""),
        2: alone("poet"),
        3: alone("clerk"),
        4: alone("poet"),
        5: alone(""),
    }
    assert len(set(answers.values())) == 3


def test_a_prompt_is_taken_over_from_the_same_adapter_only(rig: Any) -> None:
    bench = rig(slots=2, cells=1024)
    for id, adapter in enumerate(("poet", "", "poet", "clerk"), 1):
        ask(bench, id, adapter)
        bench.run()
    cached = [bench.started(id).cached_tokens for id in range(1, 5)]
    assert cached[0] == cached[1] == cached[3] == 0
    assert cached[2] == len(PROMPT) - 1
    assert bench.text(3) == bench.text(1) == alone("poet")


# llama.cpp itself


def order(path: Path, adapters: dict[str, bytes], **fields: Any) -> GeneratorOrder:
    files = []
    for name, content in adapters.items():
        (path.parent / f"{name}.gguf").write_bytes(content)
        files.append(AdapterFile(name=name, path=str(path.parent / f"{name}.gguf"), scale=1.0))
    return GeneratorOrder(
        name="m", weights=str(path), threads=1, slots=2, batch_tokens=64, adapters=tuple(files), **fields
    )


def greedy(backend: native.LlamaBackend, adapter: str, prompt: list[int], count: int) -> list[int]:
    backend.use(adapter)
    backend.forget(0)
    said: list[int] = []
    tokens, start = prompt, 0
    for _ in range(count):
        backend.decode([Span(0, start, tokens, 1)])
        start += len(tokens)
        tokens = [int(backend.logits(0).argmax())]
        said += tokens
    return said


def test_llama_cpp_answers_otherwise_with_an_adapter_and_as_before_without(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model.tiny_gguf())
    bindings.load_compute_backends()
    backend = native.LlamaBackend(
        order(path, {"one": adapter_gguf(1), "two": adapter_gguf(2), "silent": adapter_gguf(1, alpha=1e-6)}),
        256,
        lambda _: None,
    )
    try:
        prompt = backend.vocabulary.tokenize("some words", add_bos=True, parse_special=False)
        plain = greedy(backend, "", prompt, 16)
        one, two = greedy(backend, "one", prompt, 16), greedy(backend, "two", prompt, 16)
        assert len({tuple(plain), tuple(one), tuple(two)}) == 3
        assert greedy(backend, "silent", prompt, 16) == plain
        assert greedy(backend, "one", prompt, 16) == one
        assert greedy(backend, "", prompt, 16) == plain
    finally:
        backend.close()


def test_an_adapter_that_llama_cpp_refuses_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model.tiny_gguf())
    bindings.load_compute_backends()
    unfit = adapter_gguf(shapes={"blk.9.attn_q.weight": (64, 64)})
    backend = native.LlamaBackend(order(path, {"unfit": unfit, "sound": adapter_gguf()}), 256, lambda _: None)
    try:
        assert set(backend.model.refused_adapters) == {"unfit"}
        assert "blk.9.attn_q" in backend.model.refused_adapters["unfit"]
        backend.use("sound")
    finally:
        backend.close()


def test_an_adapter_is_read_from_within_a_larger_file(tmp_path: Path) -> None:
    path, carrier = tmp_path / "model.gguf", tmp_path / "carrier"
    path.write_bytes(tiny_model.tiny_gguf())
    content = adapter_gguf(1)
    carrier.write_bytes(b"x" * 4096 + content + b"y" * 100)
    carried = AdapterFile(name="carried", path=str(carrier), offset=4096, bytes=len(content))
    bindings.load_compute_backends()
    plain = order(path, {"plain": content})
    both = GeneratorOrder(
        name="m",
        weights=str(path),
        threads=1,
        slots=2,
        batch_tokens=64,
        adapters=(*plain.adapters, carried),
    )
    backend = native.LlamaBackend(both, 256, lambda _: None)
    try:
        assert not backend.model.refused_adapters
        assert greedy(backend, "carried", [1, 50], 8) == greedy(backend, "plain", [1, 50], 8)
    finally:
        backend.close()


def test_a_real_model_answers_otherwise_with_an_adapter(tmp_path: Path) -> None:
    """SmolLM2 135M, whose weights are quantised and may be repacked."""
    require((CHAT,))
    path = Store(store_directory()).path(CHAT, "model.gguf")
    made = tmp_path / "adapter.gguf"
    made.write_bytes(adapter_gguf(3, {"blk.20.ffn_down.weight": (576, 1536)}, alpha=30.0))
    adapter = AdapterFile(name="odd", path=str(made))
    bindings.load_compute_backends()
    smol = GeneratorOrder(
        name="smol", weights=str(path), threads=2, slots=2, batch_tokens=64, adapters=(adapter,)
    )
    backend = native.LlamaBackend(smol, 256, lambda _: None)
    try:
        prompt = backend.vocabulary.tokenize("The capital of France is", add_bos=True, parse_special=False)
        plain, odd = greedy(backend, "", prompt, 8), greedy(backend, "odd", prompt, 8)
        assert b"Paris" in b"".join(backend.vocabulary.piece(token) for token in plain)
        assert odd != plain
        assert greedy(backend, "", prompt, 8) == plain
    finally:
        backend.close()
