"""The prefixes that are kept outside the KV cache: a radix tree whose edges are blocks of tokens.

Owns the tree, its budgets and the order in which blocks are forgotten. Pure: keys and values are never seen
here; what must happen to them is said in `take_effects`, for the block store to carry out.

Invariants (held by tests/llm/test_blocks.py):
- a block with content has content in every block above it;
- blocks in memory and on disk stay within their budgets;
- a block was used no later than those above it, so forgetting the least recently used is forgetting leaves.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple

BLOCK_TOKENS = 64
TOKEN_BYTES = 4
DIGEST_BYTES = 16


class Block:
    """`key`: its tokens as int32s. `digest` stands for all tokens from the beginning to its end, and for the
    namespace. A block is proven once a second request has come with the same beginning."""

    __slots__ = ("children", "depth", "digest", "in_memory", "is_proven", "key", "on_disk", "parent", "size")

    def __init__(self, parent: Block | None, key: bytes, digest: bytes) -> None:
        self.parent, self.key, self.digest = parent, key, digest
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[bytes, Block] = {}
        self.size = 0  # bytes of keys and values
        self.in_memory = self.on_disk = self.is_proven = False

    @property
    def has_content(self) -> bool:
        return self.in_memory or self.on_disk


class Effect(NamedTuple):
    """`write` it from memory to disk, `drop` it from memory, `delete` it from disk."""

    action: Literal["write", "drop", "delete"]
    block: Block


def root_digest(namespace: str) -> bytes:
    return hashlib.sha256(b"namespace:" + namespace.encode()).digest()[:DIGEST_BYTES]


def child_digest(parent: bytes, key: bytes) -> bytes:
    return hashlib.sha256(parent + key).digest()[:DIGEST_BYTES]


class BlockTree:
    """Budgets are bytes; a budget of 0 is off. Only proven blocks go to disk: what nobody asks for twice
    need not wear the disk, nor lie on it."""

    def __init__(
        self, *, memory_bytes: int = 0, disk_bytes: int = 0, block_tokens: int = BLOCK_TOKENS
    ) -> None:
        self.memory_bytes, self.disk_bytes, self.block_tokens = memory_bytes, disk_bytes, block_tokens
        self.memory_used = self.disk_used = 0
        self._roots: dict[bytes, Block] = {}
        self._memory: OrderedDict[bytes, Block] = OrderedDict()  # by digest, least recently used first
        self._disk: OrderedDict[bytes, Block] = OrderedDict()
        self._effects: list[Effect] = []

    @property
    def is_on(self) -> bool:
        return self.memory_bytes > 0

    # Looking up

    def find(self, namespace: str, tokens: Sequence[int]) -> list[Block]:
        """The blocks that hold the beginning of `tokens`, from the first; whole blocks only."""
        path = self._walk(namespace, self._keys(tokens))
        return path[: next((i for i, block in enumerate(path) if not block.has_content), len(path))]

    def use(self, path: Sequence[Block]) -> None:
        """Another request begins with these blocks."""
        for block in reversed(path):
            for order in (self._memory, self._disk):
                if block.digest in order:
                    order.move_to_end(block.digest)
            self._prove(block)
        self._trim()

    # Growing

    def plant(self, namespace: str, tokens: Sequence[int], *, most: int, proven: int = 0) -> list[Block]:
        """Up to `most` new blocks for what the tree does not hold of `tokens`; they count once they are kept.

        The first `proven` tokens are known to be the beginning of another request too.
        """
        if not self.is_on or len(tokens) < self.block_tokens:
            return []
        keys = self._keys(tokens)
        path = self._walk(namespace, keys)
        planted = []
        block = path[-1] if path else self._root(root_digest(namespace))
        for key in keys[len(path) : len(path) + most]:
            block = self._grow(block, key)
            planted.append(block)
        for known in [*path, *planted][: proven // self.block_tokens]:
            self._prove(known)
        self._trim()
        return planted

    def keep(self, block: Block, size: int) -> None:
        """The block's `size` bytes are in memory now."""
        if not self._is_planted(block):
            self._effects.append(Effect("drop", block))
            return
        block.size = size
        if not block.in_memory:
            block.in_memory = True
            self.memory_used += size
            self._memory[block.digest] = block
        self._lift(block)
        if block.is_proven:
            self._write(block)
        self._trim()

    def adopt(self, digest: bytes, parent: bytes, depth: int, key: bytes, size: int) -> bool:
        """Take in a block found on disk, parents first; whether it fits to what is there."""
        above = self._root(parent) if depth == 1 else self._disk.get(parent)
        if above is None or len(key) != self.block_tokens * TOKEN_BYTES or key in above.children:
            return False
        block = self._grow(above, key)
        if block.digest != digest or block.depth != depth:
            self.remove(block)
            return False
        block.size, block.on_disk, block.is_proven = size, True, True
        self.disk_used += size
        self._disk[digest] = block
        self._lift(block)
        self._trim()
        return True

    def remove(self, block: Block) -> None:
        """The block's content is gone or wrong: it is forgotten, with all that builds on it."""
        if block.parent is not None:
            block.parent.children.pop(block.key, None)
            if block.parent.parent is None and not block.parent.children:
                self._roots.pop(block.parent.digest, None)
        left = [block]
        while left:
            gone = left.pop()
            left.extend(gone.children.values())
            gone.children = {}  # those that are still to be kept find that they no longer hang on anything
            self._forget_memory(gone)
            self._forget_disk(gone)

    def not_written(self, block: Block) -> None:
        """The disk has not taken it."""
        if block.on_disk:
            block.on_disk = False
            self.disk_used -= block.size
            self._disk.pop(block.digest, None)
            if not block.in_memory:
                self.remove(block)

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def check(self) -> None:
        """Raises AssertionError when the books do not add up."""
        if self.memory_used != sum(block.size for block in self._memory.values()):
            raise AssertionError("bytes of blocks in memory are counted wrongly")
        if self.disk_used != sum(block.size for block in self._disk.values()):
            raise AssertionError("bytes of blocks on disk are counted wrongly")
        for block in [*self._memory.values(), *self._disk.values()]:
            above = block.parent
            if not self._is_planted(block) or above is None or (above.depth > 0 and not above.has_content):
                raise AssertionError(f"a block at depth {block.depth} hangs in the air")

    # Parts

    def _keys(self, tokens: Sequence[int]) -> list[bytes]:
        width = self.block_tokens * TOKEN_BYTES
        raw = array("i", tokens).tobytes()
        return [raw[at : at + width] for at in range(0, len(raw) - width + 1, width)]

    def _walk(self, namespace: str, keys: Sequence[bytes]) -> list[Block]:
        path: list[Block] = []
        block = self._roots.get(root_digest(namespace)) if keys and self._roots else None
        for key in keys:
            block = block.children.get(key) if block is not None else None
            if block is None:
                break
            path.append(block)
        return path

    def _root(self, digest: bytes) -> Block:
        return self._roots.setdefault(digest, Block(None, b"", digest))

    @staticmethod
    def _grow(above: Block, key: bytes) -> Block:
        block = above.children[key] = Block(above, key, child_digest(above.digest, key))
        return block

    @staticmethod
    def _is_planted(block: Block) -> bool:
        return block.parent is not None and block.parent.children.get(block.key) is block

    def _lift(self, block: Block) -> None:
        """Those above a block count as used when it is, and just after it."""
        above: Block | None = block
        while above is not None:
            for order in (self._memory, self._disk):
                if above.digest in order:
                    order.move_to_end(above.digest)
            above = above.parent

    def _prove(self, block: Block) -> None:
        block.is_proven = True
        if block.in_memory:
            self._write(block)

    def _write(self, block: Block) -> None:
        if self.disk_bytes and not block.on_disk:
            block.on_disk = True
            self.disk_used += block.size
            self._disk[block.digest] = block
            self._lift(block)
            self._effects.append(Effect("write", block))

    def _trim(self) -> None:
        while self.memory_used > self.memory_bytes:
            block = next(iter(self._memory.values()))
            self._forget_memory(block)
            if not block.on_disk:
                self.remove(block)
        while self.disk_used > self.disk_bytes:
            block = next(iter(self._disk.values()))
            self._forget_disk(block)
            if not block.in_memory:
                self.remove(block)

    def _forget_memory(self, block: Block) -> None:
        if block.in_memory:
            block.in_memory = False
            self.memory_used -= block.size
            del self._memory[block.digest]
            self._effects.append(Effect("drop", block))

    def _forget_disk(self, block: Block) -> None:
        if block.on_disk:
            block.on_disk = False
            self.disk_used -= block.size
            del self._disk[block.digest]
            self._effects.append(Effect("delete", block))
