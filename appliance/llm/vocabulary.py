"""Tokens and text of a loaded model, as llama.cpp has them."""

from __future__ import annotations

import ctypes
import hashlib

from appliance.errors import InternalError
from appliance.llm.bindings import llama

PIECE_BYTES = 256  # enough for nearly every token; longer ones are asked for twice
CONTROL_ATTRIBUTES = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
MARKERS = ("<|", "<｜")  # how turn markers begin that some models define as user tokens


class LlamaVocabulary:
    """Look-ups only, so safe from any thread. Lives as long as its model."""

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
