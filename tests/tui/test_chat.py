"""A conversation, against the real server: answers with and without sources, stopped, again, saved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.serving import CHAT, Served
from tests.tui.operating import WIDE, Operator, operated, operating
from tui.conversation import Conversation, Parameters
from tui.widgets.turn import TurnText

AT_ONCE = 2.0  # seconds, on a machine that others use too
PASSAGE = "The command `dpkg -L package` lists the files of an installed package."


@pytest.fixture(scope="module")
def base(server: Served) -> Iterator[str]:
    """A base with one document, as anybody would make it."""
    file = server.http.post(
        "/v1/files",
        data={"purpose": "assistants"},
        files={"file": ("packages.md", f"# Packages\n\n{PASSAGE}")},
    ).json()
    made = server.http.post("/v1/vector_stores", json={"name": "tui-manuals"}).json()
    path = f"/v1/vector_stores/{made['id']}"
    server.http.post(f"{path}/files", json={"file_id": file["id"]})
    server.wait_until(lambda: server.http.get(path).json()["file_counts"]["completed"] == 1, 60)
    yield "tui-manuals"
    server.http.delete(path)


@contextmanager
def suspended(worker: psutil.Process) -> Iterator[None]:
    """It stands still."""
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


def words_of_answer(operator: Operator) -> int:
    answers = [shown.turn for shown in operator.app.screen.query(TurnText)][1::2]
    return len(answers[-1].text.split()) if answers else 0


async def limit(operator: Operator, tokens: str) -> None:
    """Short answers, the same each time: the tiny model may not find an end."""
    await operator.press("ctrl+o")
    await operator.sees("How this conversation asks")
    operator.app.screen.query_one("#temperature").focus()
    await operator.type("0")
    operator.app.screen.query_one("#max_tokens").focus()
    await operator.type(tokens)
    await operator.press("enter")
    await operator.sees_no("How this conversation asks")


@operated
async def test_an_answer_comes_and_can_be_asked_again_and_saved(server: Served, tmp_path: Path) -> None:
    async with operating(server.url) as operator:
        await operator.press("3")
        await operator.sees(CHAT, "no knowledge base")
        await limit(operator, "12")
        await operator.type("Say hello.")
        await operator.press("enter")
        await operator.sees("Say hello.", "tokens/s")
        await operator.press("ctrl+g")
        await operator.sees("tokens/s")
        await operator.press("ctrl+s")
        await operator.sees("Save the conversation")
        await operator.press("home", "ctrl+k")
        await operator.type(str(tmp_path / "chat.md"))
        await operator.press("enter")
        await operator.until((tmp_path / "chat.md").exists, "the file")
        written = (tmp_path / "chat.md").read_text()
        assert written.startswith("## You\n\nSay hello.\n\n## Assistant\n\n")
        assert written.count("## Assistant") == 1, "asked again takes the place of the first answer"


@operated
async def test_an_answer_is_stopped_and_the_server_with_it(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.press("3")
        await operator.sees(CHAT)
        await limit(operator, "1000")
        await operator.type("Write a very long story about a lighthouse, a storm and a ship.")
        await operator.press("enter")
        await operator.until(lambda: words_of_answer(operator) > 2, "the answer's first words")
        with suspended(server.worker("generator")):  # else it might end before the key is pressed
            await operator.sees("answers", "Esc cancels")
            await operator.press("escape")
            await operator.sees("stopped", "Cancelled")
        await operator.until(lambda: server.figure("hearth_worker_running") == 0, "the server to stop")


@operated
async def test_what_the_server_warns_of_stands_under_the_answer(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.press("3")
        await operator.sees(CHAT)
        await limit(operator, "5")
        await operator.press("ctrl+o")
        await operator.sees("How this conversation asks")
        operator.app.screen.query_one("#seed").focus()
        await operator.type("7")
        await operator.press("enter")
        await operator.sees_no("How this conversation asks")
        await operator.type("Say hello.")
        await operator.press("enter")
        await operator.sees("tokens/s", "! seed fixes")


@operated
async def test_escape_is_at_once_when_a_model_hangs(server: Served) -> None:
    async with operating(server.url) as operator:
        await operator.press("3")
        await operator.sees(CHAT)
        with suspended(server.worker("generator")):
            await operator.type("Is anybody there?")
            await operator.press("enter")
            await operator.sees("answers", "Esc cancels")
            began = time.monotonic()
            await operator.press("escape")
            await operator.sees("stopped", "Cancelled", seconds=AT_ONCE)
            assert time.monotonic() - began < AT_ONCE
            await operator.type("Still here")  # and the screen goes on
            await operator.sees("Still here", seconds=AT_ONCE)
        await operator.until(lambda: server.figure("hearth_worker_running") == 0, "the server to stop")


@operated
async def test_a_citation_opens_its_passage(server: Served, base: str) -> None:
    async with operating(server.url, WIDE) as operator:
        await operator.press("3")
        await operator.sees(CHAT)
        await limit(operator, "60")
        operator.app.screen.query_one("#chat-base").focus()
        await operator.press("enter")
        await operator.sees(base)
        await operator.press("down", "enter")
        operator.app.screen.query_one("#prompt").focus()
        await operator.type("Which command lists the files of an installed package?")
        await operator.press("enter")
        await operator.sees("Sources", "[1] packages.md", seconds=60)
        await operator.press("f5", "enter")
        await operator.sees(
            "[1] packages.md, Packages", "scroll, Esc leaves", "`dpkg -L package` lists the files"
        )
        await operator.press("escape")
        await operator.until(lambda: len(operator.app.screen_stack) == 1)
        forget_document(server, base)
        await operator.press("f5", "enter")
        await operator.sees("`dpkg -L package` lists the files", "characters", "cannot be shown here")


def forget_document(server: Served, base: str) -> None:
    """It leaves its base."""
    bases = server.http.get("/v1/vector_stores").json()["data"]
    path = next(f"/v1/vector_stores/{each['id']}/files" for each in bases if each["name"] == base)
    for file in server.http.get(path).json()["data"]:
        server.http.delete(f"{path}/{file['id']}")


def test_a_conversation_asks_with_all_before_and_writes_itself_down() -> None:
    conversation = Conversation()
    conversation.ask("one").text = "first"
    answer = conversation.ask("two")
    conversation.parameters = Parameters(system="be brief")
    assert conversation.messages() == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "two"},
    ]
    answer.text = "second"
    assert conversation.ask_again() is not None
    assert [turn.text for turn in conversation.turns] == ["one", "first", "two", ""]
    assert conversation.title == "one"


def test_only_given_parameters_are_sent() -> None:
    assert Parameters().options() == {}
    assert Parameters(temperature=0.0, max_tokens=5).options() == {
        "temperature": 0.0,
        "max_completion_tokens": 5,
    }
