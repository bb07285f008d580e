"""LangChain's standard suite for chat models, through langchain-openai, at temperature 0."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.clients.ecosystem.conftest import QWEN


class TestChat(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _address(self, base_url: str) -> None:
        self._base_url = base_url

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": QWEN,
            "base_url": self._base_url,
            "api_key": "unused",
            "temperature": 0,
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return QWEN
