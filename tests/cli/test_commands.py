"""Every command as its user types it, against the real server and the real store."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from appliance.cli.main import COMMANDS
from tests.commands import run_hearth
from tests.conftest import StartServer, require
from tests.serving import CHAT, EMBED, MULTILINGUAL, Served, store_directory


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    done = run_hearth(command, "--help", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert COMMANDS[command][2].split()[0] in run_hearth("--help", home=tmp_path).stdout
    assert len(done.stdout.splitlines()) > 3


def test_ask_streams_an_answer(server: Served, tmp_path: Path) -> None:
    done = run_hearth("ask", "Say", "hello.", "--max-tokens", "8", home=tmp_path, url=server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_commands_find_the_server_of_their_home_whatever_its_port(start_server: StartServer) -> None:
    served = start_server()
    done = run_hearth("models", "ps", home=served.home)
    assert done.returncode == 0, done.stderr
    assert CHAT in done.stdout
    served.stop()
    done = run_hearth("models", "ps", home=served.home)
    assert done.returncode == 1
    assert served.url not in done.stderr, "a server that ended in order is not looked for"


def test_ask_tells_what_the_server_warns_of(server: Served, tmp_path: Path) -> None:
    question = "Repeat the word na for ever: na na na na na na na"
    done = run_hearth("ask", question, "--temperature", "0", home=tmp_path, url=server.url)
    assert done.returncode == 0
    assert done.stdout.count("na") > 100
    assert "hearth: the answer repeated itself without end" in done.stderr


def test_ask_reads_standard_input(server: Served, tmp_path: Path) -> None:
    done = run_hearth(
        "ask", "-", "--max-tokens", "4", home=tmp_path, url=server.url, typed="What is 2 plus 2?"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_chat_remembers_and_quits(server: Served, tmp_path: Path) -> None:
    typed = "My name is Ada.\nWhat is my name?\n/new\nHello\n/quit\n"
    done = run_hearth("chat", "--max-tokens", "12", home=tmp_path, url=server.url, typed=typed)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.strip()]) >= 3
    assert CHAT in done.stderr


def test_ask_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    done = run_hearth("ask", "hello", home=tmp_path, url="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "hearth serve" in done.stderr


def test_ask_for_an_unknown_model_names_those_there_are(server: Served, tmp_path: Path) -> None:
    done = run_hearth("ask", "hello", "--model", "gpt-17", home=tmp_path, url=server.url)
    assert done.returncode == 1
    assert "gpt-17" in done.stderr
    assert CHAT in done.stderr


def test_a_busy_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_hearth("serve", "--port", str(port), "--pull", "never", home=tmp_path)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::"])
def test_an_open_bind_is_refused(host: str, tmp_path: Path) -> None:
    done = run_hearth("serve", "--host", host, "--port", "0", home=tmp_path)
    assert done.returncode == 1
    assert host in done.stderr


def test_serving_without_a_chat_model_says_what_to_run(tmp_path: Path) -> None:
    done = run_hearth("serve", "--port", "0", "--pull", "never", home=tmp_path, share_models=False)
    assert done.returncode == 1
    assert "hearth models pull" in done.stderr


def test_an_unknown_setting_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("[generator]\nslotz = 3\n")
    done = run_hearth("config", home=tmp_path)
    assert done.returncode == 1
    assert "hearth.toml" in done.stderr
    assert "generator.slotz" in done.stderr
    assert "generator.slots" in done.stderr


def test_config_shows_what_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "hearth.toml").write_text("port = 9123\n")
    done = run_hearth("config", "--set", "generator.slots=3", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9123" in done.stdout
    assert "HEARTH_GENERATOR_SLOTS" in done.stdout


def test_doctor_reports_and_finds_the_models(tmp_path: Path) -> None:
    done = run_hearth("doctor", "--json", home=tmp_path)
    findings = {(entry["section"], entry["label"]): entry for entry in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert findings["Engines", "telemetry"]["text"].endswith("is off")
    assert "CPU" in findings["Engines", "ggml device"]["text"]
    assert "fits" in findings["Models", CHAT]["text"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (f'models = ["{CHAT}"]', None),
        ('models = ["nobody"]', "nobody is to be served, and not installed"),
    ],
)
def test_doctor_looks_for_the_models_that_are_to_be_served(
    settings: str, told: str | None, tmp_path: Path
) -> None:
    (tmp_path / "hearth.toml").write_text(settings + '\npack = "starter"\n')
    done = run_hearth("doctor", "--json", home=tmp_path)
    labels = {entry["label"]: entry["text"] for entry in json.loads(done.stdout)}
    assert labels.get("models") == told, done.stdout
    assert "pack starter" not in labels


def test_models_list_show_and_verify(tmp_path: Path) -> None:
    listed = run_hearth("models", "list", home=tmp_path)
    assert EMBED in listed.stdout
    assert "installed" in listed.stdout
    shown = run_hearth("models", "show", EMBED, home=tmp_path)
    assert "sha256" in shown.stdout
    verified = run_hearth("models", "verify", EMBED, home=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.count("sound") == 2


def test_a_model_outside_the_pack_is_pulled_and_told_how_it_is_served(tmp_path: Path) -> None:
    require([CHAT, MULTILINGUAL])
    (tmp_path / "hearth.toml").write_text('pack = "tiny"\n')
    for name in (CHAT, MULTILINGUAL):
        done = run_hearth("models", "pull", name, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{name} is installed" in done.stdout
        assert ("models = [" in done.stdout) == (name == MULTILINGUAL), done.stdout
    line = done.stdout.splitlines()[-1].split("set  ")[1]
    (tmp_path / "hearth.toml").write_text(f"{line}\n")
    assert "models = [" not in run_hearth("models", "pull", MULTILINGUAL, home=tmp_path).stdout


def test_a_model_is_added_verified_damaged_and_removed(tmp_path: Path) -> None:
    from models.store import Store

    weights = Store(store_directory()).path(CHAT, "model.gguf")
    added = run_hearth("models", "add", str(weights), "--name", "mine", home=tmp_path, share_models=False)
    assert added.returncode == 0, added.stderr
    copy = Store(tmp_path / "models").path("mine", "model.gguf")
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        file.write(b"damage")
    verified = run_hearth("models", "verify", home=tmp_path, share_models=False)
    assert verified.returncode == 1
    assert "damaged" in verified.stdout
    removed = run_hearth("models", "remove", "mine", "--yes", home=tmp_path, share_models=False)
    assert removed.returncode == 0, removed.stderr
    assert not copy.exists()


def test_adding_what_is_no_model_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"GGUF" + bytes(100))
    done = run_hearth("models", "add", str(junk), home=tmp_path / "home", share_models=False)
    assert done.returncode == 1
    assert "junk.gguf" in done.stderr
    assert not list((tmp_path / "home" / "models" / "blobs").iterdir())
