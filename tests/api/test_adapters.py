"""`model: base+adapter` on a real server: adapters chosen per request, side by side, with one worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.add import add
from models.store import Store
from tests import tiny_model
from tests.commands import run_hearth
from tests.tiny_adapter import adapter_gguf
from tests.tiny_server import TinyServer

NAMES = ("ada", "ada+poet", "ada+clerk")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    """A server with a model and two adapters that change it."""
    home = tmp_path_factory.mktemp("adapters") / "home"
    store = Store(home / "models")
    tiny_model.install(store, "ada", tiny_model.tiny_gguf(1, "ada"))
    path = home / "poet.gguf"
    path.write_bytes(adapter_gguf(1))
    added = run_hearth("models", "add", str(path), "--scale", "1.5", home=home)
    assert added.returncode == 0, added.stderr
    assert "ada+poet" in added.stdout
    path = home / "clerk.gguf"
    path.write_bytes(adapter_gguf(2))
    add(store, path)
    served = TinyServer(home, ("ada", "poet", "clerk"), ("knowledge.enabled=false",))
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


def said(server: TinyServer, model: str, prompt: str = "some words to begin with") -> str:
    answer = server.ask(model, prompt=prompt, max_tokens=24, temperature=0)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    text: str = answer.json()["choices"][0]["text"]
    return text


def test_a_model_is_listed_with_each_of_its_adapters(changed: TinyServer) -> None:
    cards = {card["id"]: card for card in changed.http.get("/v1/models").json()["data"]}
    assert set(cards) == set(NAMES)
    assert {card["role"] for card in cards.values()} == {"chat"}
    assert changed.http.get("/v1/models/ada+poet").json() == cards["ada+poet"]
    (status,) = changed.http.get("/admin/v1/models").json()["data"]
    assert (status["name"], status["adapters"]) == ("ada", ["poet", "clerk"])


def test_each_adapter_says_something_else_and_always_the_same(changed: TinyServer) -> None:
    alone = {name: said(changed, name) for name in NAMES}
    assert len(set(alone.values())) == 3
    with ThreadPoolExecutor(9) as pool:
        together = list(pool.map(lambda name: (name, said(changed, name)), NAMES * 3))
    assert dict(together) == alone
    assert all(text == alone[name] for name, text in together)
    assert len(changed.http.get("/readyz").json()["workers"]) == 1, "one worker serves them all"


def test_prompts_are_cached_for_each_adapter_by_itself(changed: TinyServer) -> None:
    prompt = "a prompt that is long enough to be worth keeping in the cache"
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0}

    def cached(model: str) -> int:
        usage = changed.http.post("/v1/completions", json={"model": model, **body}).json()["usage"]
        count: int = usage["prompt_tokens_details"]["cached_tokens"]
        return count

    assert [cached("ada+poet"), cached("ada"), cached("ada+clerk")] == [0, 0, 0]
    assert min(cached("ada+poet"), cached("ada"), cached("ada+clerk")) > 50


def test_an_adapter_that_is_not_there_is_404(changed: TinyServer) -> None:
    for name in ("ada+nobody", "nobody+poet", "poet", "ada+"):
        assert changed.ask(name).status_code == 404, name


def test_an_adapter_whose_file_was_damaged_later_costs_only_itself(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store(home / "models")
    tiny_model.install(store, "ada", tiny_model.tiny_gguf(1, "ada"))
    path = tmp_path / "poet.gguf"
    path.write_bytes(adapter_gguf(1))
    blob = store.blob(add(store, path).manifest.weights.sha256)
    blob.chmod(0o600)
    blob.write_bytes(adapter_gguf(1)[:300] + bytes(len(adapter_gguf(1)) - 300))
    served = TinyServer(home, ("ada", "poet"), ("knowledge.enabled=false",))
    try:
        served.wait_ready()
        assert served.ask("ada").status_code == 200
        assert served.ask("ada+poet").status_code == 404
        assert "the adapter poet is not served" in served.log
        served.stop()
    finally:
        served.end()
