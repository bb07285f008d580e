"""The tree of stored prefixes, against the plain statement of what it should hold."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.llm.blocks import Block, BlockTree, Effect

SIZE = 10
TOKENS = st.lists(st.integers(0, 1), max_size=24)


def tree(memory: int = 1000, disk: int = 0) -> BlockTree:
    return BlockTree(memory_bytes=memory, disk_bytes=disk, block_tokens=4)


def keep(t: BlockTree, tokens: Sequence[int], namespace: str = "", proven: int = 0) -> list[Block]:
    planted = t.plant(namespace, tokens, most=100, proven=proven)
    for block in planted:
        t.keep(block, SIZE)
    return planted


def held(t: BlockTree, tokens: Sequence[int], namespace: str = "") -> int:
    return len(t.find(namespace, tokens)) * t.block_tokens


def actions(effects: Sequence[Effect], action: str) -> list[Block]:
    return [effect.block for effect in effects if effect.action == action]


@given(st.lists(TOKENS, max_size=8), TOKENS)
def test_it_finds_the_longest_beginning_in_whole_blocks(stored: list[list[int]], asked: list[int]) -> None:
    t = tree()
    for tokens in stored:
        keep(t, tokens)
    t.check()
    whole = [tokens[: len(tokens) // 4 * 4] for tokens in stored]
    common = [
        next((i for i in range(0, 25, 4) if s[: i + 4] != asked[: i + 4] or i + 4 > len(s)), 0) for s in whole
    ]
    assert held(t, asked) == max(common, default=0)


@given(
    st.lists(st.tuples(TOKENS, st.sampled_from(["", "x"]), st.integers(0, 24), st.booleans()), max_size=30),
    st.sampled_from([0, 25, 60, 1000]),
    st.sampled_from([0, 15, 40, 1000]),
)
@example([([1] * 8, "", 0, False), ([1] * 8, "", 8, False)], 25, 15)  # proven only when it is planted again
def test_budgets_and_books_hold_whatever_is_asked(
    requests: list[tuple[list[int], str, int, bool]], memory: int, disk: int
) -> None:
    t = tree(memory, disk)
    in_memory: set[bytes] = set()
    on_disk: set[bytes] = set()

    def settle() -> None:
        for effect in t.take_effects():
            target = in_memory if effect.action == "drop" else on_disk
            if effect.action == "write":
                assert effect.block.digest in in_memory | on_disk
                target.add(effect.block.digest)
            else:
                target.discard(effect.block.digest)

    for tokens, namespace, proven, is_lost in requests:
        path = t.find(namespace, tokens)
        t.use(path)
        if is_lost and path:
            t.remove(path[-1])
        planted = t.plant(namespace, tokens, most=3, proven=proven)
        settle()
        for block in planted:
            in_memory.add(block.digest)
            t.keep(block, SIZE)
            settle()
        t.check()
        assert t.memory_used <= memory
        assert t.disk_used <= disk
        assert len(in_memory) * SIZE == t.memory_used
        assert len(on_disk) * SIZE == t.disk_used


def test_namespaces_share_nothing() -> None:
    t = tree()
    keep(t, range(12), "a")
    assert (held(t, range(12), "a"), held(t, range(12), "b"), held(t, range(12))) == (12, 0, 0)


def test_what_was_used_least_lately_goes_first_and_leaves_before_their_stems() -> None:
    t = tree(memory=4 * SIZE)
    keep(t, [1] * 8)
    keep(t, [2] * 8)
    t.use(t.find("", [1] * 8))
    keep(t, [3] * 4)
    assert (held(t, [1] * 8), held(t, [2] * 8), held(t, [3] * 4)) == (8, 4, 4)


def test_only_what_a_second_request_has_goes_to_disk() -> None:
    t = tree(disk=1000)
    keep(t, range(12))
    assert not actions(t.take_effects(), "write")
    t.use(t.find("", [*range(8), 99, 99, 99, 99]))
    assert [block.depth for block in actions(t.take_effects(), "write")] == [2, 1]
    keep(t, [*range(8), 99, 99, 99, 99], proven=8)
    assert not actions(t.take_effects(), "write"), "they are there already"


def test_what_is_proven_before_it_is_kept_is_written_too() -> None:
    t = tree(disk=1000)
    keep(t, range(12), proven=8)
    assert [block.depth for block in actions(t.take_effects(), "write")] == [1, 2]


def test_blocks_from_disk_are_adopted_only_where_they_fit() -> None:
    first = tree(disk=1000)
    blocks = keep(first, range(12), proven=12)
    second = tree(disk=1000)
    for block in blocks:
        assert block.parent is not None
        assert second.adopt(block.digest, block.parent.digest, block.depth, block.key, SIZE)
    assert held(second, range(12)) == 12
    last = blocks[-1]
    assert last.parent is not None
    third = tree(disk=1000)
    assert not third.adopt(last.digest, last.parent.digest, last.depth, last.key, SIZE), "its parent is gone"
    other = b"\1" * len(last.key)
    assert not third.adopt(blocks[0].digest, blocks[0].parent.digest, 1, other, SIZE)  # type: ignore[union-attr]
    third.check()
    assert third.disk_used == 0


def test_a_refused_write_is_taken_back() -> None:
    t = tree(disk=1000)
    (block,) = keep(t, range(4), proven=4)
    t.not_written(block)
    t.check()
    assert (t.disk_used, held(t, range(4))) == (0, 4)


def test_what_is_kept_after_its_stem_has_gone_is_dropped() -> None:
    t = tree()
    first, second, third = t.plant("", range(12), most=3)
    t.keep(first, SIZE)
    t.remove(first)
    t.take_effects()
    t.keep(second, SIZE)
    t.keep(third, SIZE)
    assert [effect.block for effect in t.take_effects()] == [second, third]
    t.check()
    assert t.memory_used == 0
