"""`llm`, the command-line client, with an entry in its extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import CHAT, Served

ENTRY = """
- model_id: hearth
  model_name: {model}
  api_base: "{url}/v1"
  supports_schema: true
  supports_tools: true
- model_id: hearth-completion
  model_name: {model}
  api_base: "{url}/v1"
  completion: true
"""


@pytest.fixture
def home(tmp_path: Path, server: Served) -> Path:
    (tmp_path / "extra-openai-models.yaml").write_text(ENTRY.format(model=CHAT, url=server.url), "utf-8")
    return tmp_path


def llm(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm", *words],
        env=os.environ | {"LLM_USER_PATH": str(home), "OPENAI_API_KEY": "unused"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_prompts_whole_and_streamed(home: Path) -> None:
    asked = ("Say hello.", "-m", "hearth", "-o", "temperature", "0", "-o", "max_tokens", "12")
    streamed, whole = llm(home, *asked), llm(home, *asked, "--no-stream")
    assert streamed.returncode == whole.returncode == 0, streamed.stderr + whole.stderr
    assert streamed.stdout.strip()
    assert whole.stdout.strip()


def test_a_conversation_goes_on_and_a_schema_is_held_to(home: Path) -> None:
    assert llm(home, "Hello.", "-m", "hearth", "-o", "max_tokens", "8").returncode == 0
    assert llm(home, "-c", "And again.", "-o", "max_tokens", "8").returncode == 0
    made = llm(home, "A dog.", "-m", "hearth", "--schema", "name, age int", "-o", "max_tokens", "60")
    assert made.returncode == 0, made.stderr
    assert {"name", "age"} <= set(json.loads(made.stdout))


def test_completion_models_and_errors(home: Path) -> None:
    done = llm(home, "One, two,", "-m", "hearth-completion", "-o", "max_tokens", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    refused = llm(home, "word " * 20_000, "-m", "hearth")
    assert refused.returncode != 0
    assert "context" in refused.stderr
