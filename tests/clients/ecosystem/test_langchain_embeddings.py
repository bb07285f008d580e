"""LangChain's standard suite for embeddings, through langchain-openai."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from tests.serving import EMBED

# Texts instead of OpenAI's token ids, as LangChain asks of servers with other models.
OWN_TOKENS = {"check_embedding_ctx_length": False}


class TestEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _address(self, base_url: str) -> None:
        self._base_url = base_url

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": EMBED,
            "base_url": self._base_url,
            "api_key": "unused",
            "max_retries": 0,
        } | OWN_TOKENS
