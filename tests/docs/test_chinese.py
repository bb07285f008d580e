"""The Chinese guide: every command and option in it exists, every setting too, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from appliance.cli.main import hearth
from appliance.config.layers import load

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "README.zh.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_commands_and_their_options_exist(line: str) -> None:
    words = [word for word in shlex.split(line) if word != "sudo"]
    assert words[0] in ("hearth", "./hearth")
    command: click.Command = hearth
    context = click.Context(hearth)
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, line
        command = found
    options = {option for param in command.params for option in param.opts}
    assert [word for word in rest if word.startswith("--") and word not in options] == []


@pytest.mark.parametrize("text", blocks("toml"))
def test_settings_are_taken(text: str, tmp_path: Path) -> None:
    for name in re.findall(r'"(/etc/hearth/[^"]+)"', text):
        text = text.replace(name, str(tmp_path / Path(name).name))
        (tmp_path / Path(name).name).touch()
    (tmp_path / "hearth.toml").write_text(text)
    load(tmp_path / "hearth.toml", {"CLOUD_KEY": "x"})


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", GUIDE)
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []
