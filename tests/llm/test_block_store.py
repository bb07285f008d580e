"""Stored prefixes on a real disk: over restarts, damage and a disk that refuses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.llm.block_store import SUFFIX, BlockStore
from appliance.llm.blocks import BlockTree

PROMPT = "A system prompt that many have, of some length. " * 2


def ask_twice(r: Any) -> None:
    """Two requests with the same beginning prove it; then the engine has time to keep it."""
    for id, question in ((1, "one"), (2, "two")):
        r.ask(id, PROMPT + question, 4)
        r.run()
    while r.engine.rest():
        pass
    r.store.close()


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*" + SUFFIX))


def test_a_proven_beginning_outlives_the_process(rig: Any, tmp_path: Path) -> None:
    options = {"memory": 100_000, "disk": 100_000, "directory": tmp_path, "cells": 1024}
    first = rig(**options)
    ask_twice(first)
    assert len(files(tmp_path)) == len(PROMPT) // 8
    second = rig(**options)
    second.ask(1, PROMPT + "three", 4)
    second.run()
    assert second.started(1).cached_tokens == len(PROMPT) // 8 * 8
    assert second.backend.restored_tokens == len(PROMPT) // 8 * 8
    assert second.text(1) == second.alone(PROMPT + "three", 4)


def test_nothing_that_only_one_has_asked_is_on_disk(rig: Any, tmp_path: Path) -> None:
    r = rig(memory=100_000, disk=100_000, directory=tmp_path, cells=1024)
    r.ask(1, "my secret: " + "x" * 100, 4)
    r.run()
    while r.engine.rest():
        pass
    r.store.close()
    assert not files(tmp_path)
    assert r.backend.saved_blocks


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "empty", "rename"])
def test_a_damaged_file_is_dropped_and_never_believed(rig: Any, tmp_path: Path, damage: str) -> None:
    options = {"memory": 100_000, "disk": 100_000, "directory": tmp_path, "cells": 1024}
    ask_twice(rig(**options))
    chance = random.Random(7)
    for round in range(12):
        paths = files(tmp_path)
        path = chance.choice(paths)
        raw = bytearray(path.read_bytes())
        match damage:
            case "flip":
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
                path.write_bytes(raw)
            case "cut":
                path.write_bytes(raw[: chance.randrange(len(raw))])
            case "swap":
                path.write_bytes(chance.choice(paths).read_bytes())
            case "empty":
                path.write_bytes(b"")
            case "rename":
                path.rename(path.with_name("00" * 16 + SUFFIX))
        r = rig(**options)
        r.ask(1, PROMPT + f"round {round}", 4)
        r.run()
        assert r.text(1) == r.alone(PROMPT + f"round {round}", 4)
        r.ask(2, PROMPT + f"again {round}", 4)
        r.run()
        while r.engine.rest():
            pass
        r.store.close()
    assert len(files(tmp_path)) == len(PROMPT) // 8, "what was lost was computed and kept anew"


def test_other_settings_drop_what_was_stored(rig: Any, tmp_path: Path) -> None:
    ask_twice(rig(memory=100_000, disk=100_000, directory=tmp_path, cells=1024))
    other = BlockStore(tmp_path, b"another model")
    assert other.find() == []
    other.close()
    assert not files(tmp_path)


def test_a_disk_that_refuses_costs_the_cache_and_no_answer(rig: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("this is no directory")
    r = rig(memory=100_000, disk=100_000, directory=blocked, cells=1024)
    ask_twice(r)
    assert r.text(2) == r.alone(PROMPT + "two", 4)
    assert r.tree.disk_used == 0


def test_the_disk_budget_is_kept(tmp_path: Path) -> None:
    tree = BlockTree(memory_bytes=10_000, disk_bytes=350, block_tokens=4)
    store = BlockStore(tmp_path, b"")
    for number in range(10):
        for block in tree.plant("", [number] * 4, most=1, proven=4):
            store.put(block, np.full(100, number, np.uint8))
            tree.keep(block, 100)
        assert store.carry_out(tree.take_effects()) == []
    store.close()
    assert len(files(tmp_path)) == 3
