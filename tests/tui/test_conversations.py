"""Conversations that outlive the session: private, whole, bounded, and gone when they are deleted."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.tiny_server import TinyServer
from tests.tui.operating import WIDE, operated, operating
from tui import clock, conversations
from tui.conversation import Conversation, Parameters
from tui.conversations import Conversations


def asked(question: str) -> Conversation:
    conversation = Conversation(parameters=Parameters(system="be brief", seed=7), model="ada")
    conversation.ask(question).text = f"about {question}"
    return conversation


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_said_is_there_again_and_nobody_else_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "chats"
    said = asked("one")
    Conversations(directory).put(said)
    assert Conversations(directory).all().conversations == (said,)
    assert mode(directory) == 0o700
    assert [mode(file) for file in directory.iterdir()] == [0o600]


def test_the_newest_come_first_and_the_oldest_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MOST", 3)
    moments = iter(range(1000, 2000))
    monkeypatch.setattr(clock, "now", lambda: float(next(moments)))
    kept = Conversations(tmp_path)
    for number in range(5):
        kept.put(asked(str(number)))
    assert [each.title for each in kept.all().conversations][:2] == ["4", "3"]
    assert kept.count_kept() == 3
    assert {each.title for each in Conversations(tmp_path).all().conversations} == {"4", "3", "2"}


def test_what_cannot_be_read_is_counted_and_hides_nothing(tmp_path: Path) -> None:
    kept = Conversations(tmp_path)
    kept.put(asked("whole"))
    (tmp_path / "torn.json").write_bytes(b'{"turns": [')
    found = Conversations(tmp_path).all()
    assert [each.title for each in found.conversations] == ["whole"]
    assert found.unreadable == 1


def test_a_deleted_one_does_not_come_back_with_the_end_of_its_answer(tmp_path: Path) -> None:
    kept, said = Conversations(tmp_path), asked("secret")
    kept.put(said)
    kept.delete(said.id)
    kept.put(said)
    assert kept.all().conversations == ()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_it_is_not_to_be(tmp_path: Path) -> None:
    kept = Conversations(tmp_path / "chats", is_keeping=False)
    kept.put(asked("one"))
    assert [each.title for each in kept.all().conversations] == ["one"], "it is there for this session"
    assert not (tmp_path / "chats").exists()
    assert not Conversations().can_keep


@operated
async def test_a_conversation_is_gone_on_with_deleted_and_kept_no_more(
    box: TinyServer, tmp_path: Path
) -> None:
    chats, kept = tmp_path / "chats", tmp_path / "tui.json"
    async with operating(box.url, WIDE, kept=kept, chats=chats) as operator:
        await operator.press("3")
        await operator.sees("ada", "F3 earlier")
        await operator.press("ctrl+o")
        await operator.sees("How this conversation asks")
        operator.app.screen.query_one("#max_tokens").focus()
        await operator.type("8")
        await operator.press("enter")
        await operator.sees_no("How this conversation asks")
        await operator.type("Where is the key?")
        await operator.press("enter")
        await operator.sees("tokens/s")
    assert len(list(chats.iterdir())) == 1

    async with operating(box.url, WIDE, kept=kept, chats=chats) as operator:
        await operator.press("3")
        await operator.sees("ada", "Ask something")
        await operator.press("f3")
        await operator.sees("Earlier conversations", "Where is the key?", str(chats)[:20])
        await operator.press("enter")
        await operator.sees("Where is the key?", "tokens/s")
        await operator.sees_no("Earlier conversations")
        await operator.press("ctrl+g")  # its parameters came back with it
        await operator.until(lambda: len(operator.app.screen.query("TurnText")) == 2, "one answer")
        await operator.press("f3")
        await operator.sees("Earlier conversations")
        await operator.press("d")
        await operator.sees("Delete “Where is the key?”")
        await operator.press("tab", "enter")
        await operator.sees("There is no earlier conversation.")
        await operator.sees_no("Where is the key?")
        assert list(chats.iterdir()) == []

        await operator.press("f6")
        await operator.sees("Conversations are kept no more")
        await operator.type("Not for the disk")
        await operator.press("enter")
        await operator.sees("tokens/s")
        assert list(chats.iterdir()) == []
    async with operating(box.url, WIDE, kept=kept, chats=chats) as operator:
        assert not operator.app.conversations.is_keeping
