"""Talking to a model, with a knowledge base or without, and seeing where its answers come from."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, OptionList, Select
from textual.widgets.option_list import Option

from appliance.errors import HearthError
from tui import clock, format
from tui.conversation import Conversation, Parameters, Turn, distinct, place
from tui.dialogs.parameters import ParametersQuestion
from tui.dialogs.passage import Passage
from tui.dialogs.pick import Pick
from tui.dialogs.text import TextQuestion
from tui.language import say
from tui.remedies import advice
from tui.screens.base import HearthScreen, flow
from tui.widgets.prompt import Prompt

KEPT_CONVERSATIONS = 30


class Chat(HearthScreen):
    NAME = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new", "chat.new", priority=True),
        Binding("ctrl+g", "again", "chat.again", priority=True),
        Binding("ctrl+o", "parameters", "chat.parameters", priority=True),
        Binding("ctrl+y", "copy", "chat.copy", priority=True),
        Binding("ctrl+s", "export", "chat.export", priority=True),
        Binding("f2", "pick('model')", "chat.pick_model", priority=True, show=False),
        Binding("f4", "pick('base')", "chat.pick_base", priority=True, show=False),
        Binding("f5", "sources", "chat.pick_source", priority=True, show=False),
        Binding("f3", "earlier", "chat.earlier", priority=True, show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._conversation = Conversation()
        self._earlier: list[Conversation] = []
        self._parameters = Parameters()
        self._models: list[str] = []
        self._bases: list[str] = []
        self._model: str | None = None
        self._base: str | None = None
        self._sources: list[dict[str, Any]] = []

    # The screen

    def body(self) -> ComposeResult:
        with Horizontal(id="chat-pickers"):
            yield Select(
                [(name, name) for name in self._models],
                prompt=say("chat.model"),
                value=self._model or Select.NULL,
                id="chat-model",
                compact=True,
            )
            yield Select(
                [(name, name) for name in self._bases],
                prompt=say("chat.no_base"),
                value=self._base or Select.NULL,
                id="chat-base",
                compact=True,
            )
        with Horizontal(id="chat-middle"):
            with VerticalScroll(id="transcript"):
                for turn in self._conversation.turns:
                    yield _TurnText(turn)
            yield OptionList(id="sources", markup=False)
        yield Prompt(id="prompt", placeholder=say("chat.prompt"), compact=True)

    def composed(self) -> None:
        self.query_one("#sources", OptionList).border_title = say("chat.sources")
        self._show_sources(self._sources)
        self.query_one(Prompt).focus()
        if not self._models:
            self.find_choices()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self._models:
            self.find_choices()

    @flow
    async def find_choices(self) -> None:
        """Which models and bases there are now."""
        models, bases = await self.call(
            lambda client: (client.chat_models(), [base["name"] for base in client.bases()]),
            say("chat.finding"),
        )
        if (models, bases) != (self._models, self._bases):
            self._models, self._bases = models, [name for name in bases if name]
            if self._model not in models:
                self._model = models[0] if models else None
            self._set_choices("#chat-model", self._models, self._model)
            self._set_choices("#chat-base", self._bases, self._base)

    def _set_choices(self, which: str, names: list[str], chosen: str | None) -> None:
        select = self.query_one(which, Select)
        with self.prevent(Select.Changed):
            select.set_options([(name, name) for name in names])
            select.value = chosen if chosen in names else Select.NULL

    @on(Select.Changed, "#chat-model")
    def choose_model(self, event: Select.Changed) -> None:
        self._model = None if event.value is Select.NULL else str(event.value)
        self.query_one(Prompt).focus()

    @on(Select.Changed, "#chat-base")
    def choose_base(self, event: Select.Changed) -> None:
        self._base = None if event.value is Select.NULL else str(event.value)
        self.query_one(Prompt).focus()

    def action_pick(self, which: str) -> None:
        select = self.query_one(f"#chat-{which}", Select)
        select.focus()
        select.action_show_overlay()

    # Asking

    @on(Prompt.Sent)
    def ask(self, event: Prompt.Sent) -> None:
        if self._model is None:
            self.notify(say("chat.no_model"), severity="warning")
            self.query_one(Prompt).text = event.text
            return
        if self._is_answering:
            self.notify(say("chat.still_answering"), severity="warning")
            self.query_one(Prompt).text = event.text
            return
        answer = self._conversation.ask(event.text)
        self.answer(answer, self._conversation.turns[-2])

    def action_again(self) -> None:
        if self._is_answering:
            return
        before = self._conversation.last_answer()
        answer = self._conversation.ask_again()
        if answer is not None:
            for shown in self.query(_TurnText):
                if shown.turn is before:
                    shown.remove()
            self.answer(answer)

    @property
    def _is_answering(self) -> bool:
        return any(worker.name == "answer" and worker.is_running for worker in self.workers)

    @flow
    async def answer(self, answer: Turn, question: Turn | None = None) -> None:
        """Shows the answer as it comes; what ends it early is noted under it."""
        transcript = self.query_one("#transcript", VerticalScroll)
        shown = _TurnText(answer)
        await transcript.mount_all([*([_TurnText(question)] if question else []), shown])
        transcript.anchor()
        self._show_sources([])
        began, first, pieces = clock.ticks(), 0.0, 0
        note = say("chat.stopped")
        try:
            async for said in self.stream(self._request(), say("chat.answering", model=self._model)):
                first = first or clock.ticks() - began
                pieces += len(said)
                await shown.add("".join(words for words in said if isinstance(words, str)))
                answer.sources += [source for source in said if not isinstance(source, str)]
            rate = pieces / max(1e-3, clock.ticks() - began - first)
            note = say("chat.figures", model=self._model, first=format.seconds(first), rate=format.rate(rate))
        except HearthError as error:
            note = f"✗ {error.message}  → {advice(error)}"
            raise
        finally:
            answer.note = note
            if shown.is_attached:  # else this conversation is no longer on the screen
                await shown.end()
                self._show_sources(answer.sources)

    def _request(self) -> Any:
        """The client's call for what is asked now."""
        model, base = self._model or "", self._base
        messages = self._conversation.messages(self._parameters)
        options = self._parameters.options()
        if base is None:
            return lambda client: client.stream_chat(model, messages, **options)
        return lambda client: client.stream_cited(model, messages, base, **options)

    # Sources

    def _show_sources(self, sources: list[dict[str, Any]]) -> None:
        self._sources = distinct(sources)
        shown = self.query_one("#sources", OptionList)
        shown.display = bool(sources)
        shown.clear_options()
        shown.add_options([Option(f"[{each['number']}] {place(each)}") for each in self._sources])

    def action_sources(self) -> None:
        """The keys go to the sources; Enter opens the one that is marked."""
        if not self._sources:
            self.notify(say("chat.no_sources"))
            return
        shown = self.query_one("#sources", OptionList)
        shown.focus()
        if shown.highlighted is None:
            shown.highlighted = 0

    @on(OptionList.OptionSelected, "#sources")
    def open_source(self, event: OptionList.OptionSelected) -> None:
        self.app.push_screen(Passage(self._sources[event.option_index]))

    # Conversations

    def action_new(self) -> None:
        self._keep()
        self._open(Conversation())

    @flow
    async def action_earlier(self) -> None:
        self._keep()
        titles = {str(number): each.title for number, each in enumerate(self._earlier)}
        if not titles:
            self.notify(say("chat.no_earlier"))
            return
        chosen = await self.app.push_screen_wait(Pick(say("chat.earlier"), dict(reversed(titles.items()))))
        if chosen is not None:
            self._open(self._earlier[int(chosen)])

    def _keep(self) -> None:
        """The conversation on the screen, at the end of those that can be gone back to."""
        if self._conversation.turns:
            others = [each for each in self._earlier if each is not self._conversation]
            self._earlier = [*others, self._conversation][-KEPT_CONVERSATIONS:]

    def _open(self, conversation: Conversation) -> None:
        self.workers.cancel_group(self, "flows")
        self._conversation = conversation
        last = conversation.last_answer()
        self._sources = last.sources if last else []
        self.refresh(recompose=True)

    @flow
    async def action_parameters(self) -> None:
        chosen = await self.app.push_screen_wait(ParametersQuestion(self._parameters))
        if chosen is not None:
            self._parameters = chosen

    def action_copy(self) -> None:
        answer = self._conversation.last_answer()
        if answer is None:
            self.notify(say("chat.nothing_yet"))
        else:
            self.app.copy_to_clipboard(answer.text)
            self.notify(say("chat.copied"))

    @flow
    async def action_export(self) -> None:
        if not self._conversation.turns:
            self.notify(say("chat.nothing_yet"))
            return
        suggested = str(Path.home() / f"chat-{time.strftime('%Y%m%d-%H%M%S')}.md")
        path = await self.app.push_screen_wait(
            TextQuestion(say("chat.export_title"), say("chat.export_text"), suggested)
        )
        if path is None:
            return
        names = {"user": say("chat.you"), "assistant": say("chat.assistant")}
        text = self._conversation.markdown(names, say("chat.sources"))
        try:
            await asyncio.to_thread(_write_new, path, text)
        except OSError as error:
            self.show_problem(
                say("chat.not_written", path=path, reason=error.strerror), say("chat.other_path")
            )
        else:
            self.notify(say("chat.written", path=path))


def _write_new(path: str, text: str) -> None:
    with Path(path).expanduser().open("x", encoding="utf-8") as file:
        file.write(text)


class _TurnText(Markdown):
    """A question or an answer; an answer grows."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.text, classes=f"turn -{turn.role}", open_links=False)
        self.turn = turn
        self._stream = Markdown.get_stream(self) if turn.role == "assistant" and not turn.note else None
        self.border_subtitle = Content(turn.note) if turn.note else ""

    async def add(self, text: str) -> None:
        self.turn.text += text
        if self._stream is not None:
            await self._stream.write(text)

    async def end(self) -> None:
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None
        self.border_subtitle = Content(self.turn.note)
