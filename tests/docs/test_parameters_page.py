"""docs/PARAMETERS.md is made from the table that checks requests; `--write` makes it anew."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import msgspec
import ollama
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import input_token_count_params, response_compact_params, response_create_params

from appliance.api import parameter_table, schemas
from appliance.api.anthropic import schemas as anthropic_schemas
from appliance.api.ollama import schemas as ollama_schemas
from appliance.api.responses import schemas as response_schemas

PAGE = Path(__file__).parents[2] / "docs" / "PARAMETERS.md"
HEAD = """# Parameters

What becomes of every parameter, surface by surface. *served*: as the surface describes it. *mapped*: it
becomes what the note says. *ignored*: the answer comes with a warning (`x-hearth-warning`, and `warnings`
in the body). *accepted*: there is nothing to say about it. *refused*: an error that names the parameter,
unless its value asks for nothing. A name that is not listed is an error too.
"""


def page() -> str:
    parts = [HEAD]
    for path, found in itertools.groupby(parameter_table.entries(), key=lambda entry: entry.path):
        parts.append(f"\n## {path}\n\n| parameter | | |\n|---|---|---|\n")
        parts += [f"| `{entry.parameter}` | {entry.verdict} | {entry.note} |\n" for entry in found]
    return "".join(parts)


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text("utf-8") == page(), f"run `python {Path(__file__).name} --write`"


def test_every_rule_and_note_is_of_a_parameter_that_there_is() -> None:
    for surface in parameter_table.SURFACES:
        names = {field.name for field in msgspec.structs.fields(surface.kind)}
        assert {rule.parameter for rule in surface.rules} <= names, surface.path
        encoded = {field.encode_name for field in msgspec.structs.fields(surface.kind)}
        assert set(surface.notes) <= encoded, surface.path


TYPED_DICTS: list[tuple[Any, type[msgspec.Struct]]] = [
    (chat_create_params.CompletionCreateParamsBase, schemas.ChatRequest),
    (completion_create_params.CompletionCreateParamsBase, schemas.CompletionRequest),
    (response_create_params.ResponseCreateParamsBase, response_schemas.CreateResponse),
    (input_token_count_params.InputTokenCountParams, response_schemas.CountInputTokens),
    (response_compact_params.ResponseCompactParams, response_schemas.CompactResponse),
    (message_create_params.MessageCreateParamsBase, anthropic_schemas.CreateMessage),
    (message_count_tokens_params.MessageCountTokensParams, anthropic_schemas.CountTokens),
]


@pytest.mark.parametrize(("theirs", "ours"), TYPED_DICTS, ids=lambda kind: kind.__name__)
def test_every_parameter_of_the_sdk_is_known(theirs: Any, ours: type[msgspec.Struct]) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(ours)}
    assert set(theirs.__annotations__) - known == set()


def test_every_parameter_of_ollamas_client_is_known() -> None:
    pairs: list[tuple[Any, type[msgspec.Struct]]] = [
        (ollama._types.ChatRequest, ollama_schemas.ChatRequest),
        (ollama._types.GenerateRequest, ollama_schemas.GenerateRequest),
        (ollama._types.EmbedRequest, ollama_schemas.EmbedRequest),
        (ollama._types.EmbeddingsRequest, ollama_schemas.EmbeddingsRequest),
        (ollama.Options, ollama_schemas.Options),
    ]
    for theirs, ours in pairs:
        known = {field.encode_name for field in msgspec.structs.fields(ours)}
        assert set(theirs.model_fields) - known == set(), theirs


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(page(), "utf-8")
