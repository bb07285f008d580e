"""`llm`, the command-line client, with an entry in its extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
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
    return home_for(server, tmp_path)


def home_for(served: Served, home: Path) -> Path:
    (home / "extra-openai-models.yaml").write_text(ENTRY.format(model=CHAT, url=served.url), "utf-8")
    return home


def begun(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "llm", *words],
        env=os.environ | {"LLM_USER_PATH": str(home), "OPENAI_API_KEY": "unused"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def llm(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    with begun(home, *words) as process:
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


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


def test_a_cut_stream_ends_in_an_error(start_server: StartServer, tmp_path: Path) -> None:
    served = start_server("generator.context_length=4096")
    home = tmp_path / "llm"
    home.mkdir()
    asked = ("Count for ever.", "-m", "hearth", "-o", "max_tokens", "4000")
    with begun(home_for(served, home), *asked) as process:
        assert process.stdout is not None
        assert process.stdout.read(12)
        served.worker("generator").kill()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "the model's process ended" in stderr
