"""What is done with whole conversations: kept, gone back to, deleted, exported, asked in another way.

Knows no widget of the chat: `show_conversation` is the screen's.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tui.conversation import Conversation
from tui.dialogs.earlier import Earlier
from tui.dialogs.parameters import ParametersQuestion
from tui.dialogs.text import TextQuestion
from tui.files import write_new
from tui.language import say
from tui.screens.base import HearthScreen, flow


class ChatWork(HearthScreen):
    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation()

    def show_conversation(self) -> None:
        """Another one is to be on the screen."""
        raise NotImplementedError

    def keep(self, conversation: Conversation) -> None:
        """As it is now, once something was said."""
        if not conversation.turns:
            return
        conversation.server = self.hearth.backend.url
        try:
            self.hearth.conversations.put(conversation)
        except OSError as error:
            self.show_problem(say("chat.not_kept", reason=error.strerror), say("chat.not_kept_advice"))

    def action_new(self) -> None:
        self._open(Conversation(parameters=self.conversation.parameters))

    def _open(self, conversation: Conversation) -> None:
        self.workers.cancel_group(self, "flows")
        self.conversation = conversation
        self.show_conversation()

    @flow
    async def action_earlier(self) -> None:
        """Goes on with one; those that are to go leave one by one."""
        kept = self.hearth.conversations
        while True:
            found = await asyncio.to_thread(kept.all)
            if found.unreadable:
                self.notify(say("earlier.unreadable", count=found.unreadable), severity="warning")
            if not found.conversations:
                self.notify(say("chat.no_earlier"))
                return
            chosen = await self.app.push_screen_wait(Earlier(found.conversations, self._where()))
            if chosen is None:
                return
            if not chosen.is_to_go:
                self._open(chosen.conversation)
                return
            await self._delete(chosen.conversation)

    def _where(self) -> str:
        kept = self.hearth.conversations
        if kept.can_keep and kept.is_keeping:
            return say("earlier.kept", directory=kept.directory)
        return say("earlier.not_kept")

    async def _delete(self, conversation: Conversation) -> None:
        question = say("earlier.delete_question", title=conversation.title)
        if not await self.confirm(question, say("earlier.delete_lost"), say("earlier.delete")):
            return
        try:
            self.hearth.conversations.delete(conversation.id)
        except OSError as error:
            self.show_problem(say("earlier.not_deleted", reason=error.strerror), say("chat.not_kept_advice"))
            return
        if conversation.id == self.conversation.id:
            self.conversation = Conversation(parameters=conversation.parameters)
            self.show_conversation()

    @flow
    async def action_keeping(self) -> None:
        """Whether conversations are written down from now on; those that are may go."""
        kept = self.hearth.conversations
        if not kept.can_keep:
            self.notify(say("chat.cannot_keep"))
            return
        self.hearth.keep_conversations(not kept.is_keeping)
        if kept.is_keeping:
            self.keep(self.conversation)
            self.notify(say("chat.keeping", directory=kept.directory))
            return
        self.notify(say("chat.keeping_no_more"))
        count = kept.count_kept()
        if count and await self.confirm(
            say("earlier.forget_question", count=count), say("earlier.delete_lost"), say("earlier.delete")
        ):
            await asyncio.to_thread(kept.delete_kept)

    @flow
    async def action_parameters(self) -> None:
        chosen = await self.app.push_screen_wait(ParametersQuestion(self.conversation.parameters))
        if chosen is not None:
            self.conversation.parameters = chosen

    def action_copy(self) -> None:
        answer = self.conversation.last_answer()
        if answer is None:
            self.notify(say("chat.nothing_yet"))
        else:
            self.app.copy_to_clipboard(answer.text)
            self.notify(say("chat.copied"))

    @flow
    async def action_export(self) -> None:
        if not self.conversation.turns:
            self.notify(say("chat.nothing_yet"))
            return
        suggested = str(Path.home() / f"chat-{time.strftime('%Y%m%d-%H%M%S')}.md")
        path = await self.app.push_screen_wait(
            TextQuestion(say("chat.export_title"), say("chat.export_text"), suggested)
        )
        if path is None:
            return
        names = {"user": say("chat.you"), "assistant": say("chat.assistant")}
        text = self.conversation.markdown(names, say("chat.sources"))
        try:
            await asyncio.to_thread(write_new, Path(path), text)
        except OSError as error:
            self.show_problem(
                say("chat.not_written", path=path, reason=error.strerror), say("chat.other_path")
            )
        else:
            self.notify(say("chat.written", path=path))
