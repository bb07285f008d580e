"""Talking to a model, with a knowledge base or without, and seeing where its answers come from."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import OptionList, Select
from textual.widgets.option_list import Option

from appliance.errors import HearthError
from tui import clock, format, passages
from tui.conversation import Turn, distinct, place
from tui.dialogs.document import DocumentView
from tui.dialogs.passage import Passage
from tui.language import say
from tui.remedies import advice
from tui.screens.base import flow
from tui.screens.chat_work import ChatWork
from tui.widgets.prompt import Prompt
from tui.widgets.turn import TurnText


class Chat(ChatWork):
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
        Binding("f6", "keeping", "chat.keep", priority=True, show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._models: list[str] = []
        self._bases: dict[str, str] = {}  # name → id
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
                for turn in self.conversation.turns:
                    yield TurnText(turn)
            yield OptionList(id="sources", markup=False)
        yield Prompt(id="prompt", placeholder=say("chat.prompt"), compact=True)

    def composed(self) -> None:
        self.query_one("#sources", OptionList).border_title = say("chat.sources")
        self.query_one(Prompt).border_subtitle = say("chat.keys")
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
        models = await self.call(lambda client: client.chat_models(), say("chat.finding"))
        bases: dict[str, str] = {}
        with contextlib.suppress(HearthError):  # switched off, or not for this key: there are none to choose
            found = await self.call(lambda client: client.bases(), say("chat.finding"))
            bases = {base["name"]: base["id"] for base in found if base["name"]}
        if (models, bases) != (self._models, self._bases):
            self._models, self._bases = models, bases
            if self._model not in models:
                self._model = models[0] if models else None
            self._set_choices("#chat-model", self._models, self._model)
            self._set_choices("#chat-base", self._bases, self._base)

    def _set_choices(self, which: str, names: Collection[str], chosen: str | None) -> None:
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
        answer = self.conversation.ask(event.text)
        self.keep(self.conversation)
        self.answer(answer, self.conversation.turns[-2])

    def action_again(self) -> None:
        if self._is_answering:
            return
        before = self.conversation.last_answer()
        answer = self.conversation.ask_again()
        if answer is not None:
            for shown in self.query(TurnText):
                if shown.turn is before:
                    shown.remove()
            self.answer(answer)

    @property
    def _is_answering(self) -> bool:
        return any(worker.name == "answer" and worker.is_running for worker in self.workers)

    @flow
    async def answer(self, answer: Turn, question: Turn | None = None) -> None:
        """Shows the answer as it comes; what ends it early and what the server warns of is noted under it."""
        transcript = self.query_one("#transcript", VerticalScroll)
        shown, conversation = TurnText(answer), self.conversation
        answer.base = self._bases.get(self._base or "", "")
        conversation.model, conversation.base = self._model or "", self._base or ""
        await transcript.mount_all([*([TurnText(question)] if question else []), shown])
        transcript.anchor()
        self._show_sources([])
        began, first, pieces = clock.ticks(), 0.0, 0
        note, warnings = say("chat.stopped"), list[str]()
        try:
            async for said in self.stream(self._request(warnings), say("chat.answering", model=self._model)):
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
            answer.note = " · ".join((note, *(f"! {warning}" for warning in warnings)))
            for warning in warnings:  # the note may be cut where the screen ends
                self.notify(warning, severity="warning")
            self.keep(conversation)
            if shown.is_attached:  # else this conversation is no longer on the screen
                await shown.end()
                self._show_sources(answer.sources)

    def _request(self, warnings: list[str]) -> Any:
        """The client's call for what is asked now; the server's warnings are added to `warnings`."""
        model, base = self._model or "", self._base
        messages = self.conversation.messages()
        options = self.conversation.parameters.options() | {"note": warnings.append}
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
        self._open_passage(self._sources[event.option_index])

    @flow
    async def _open_passage(self, source: dict[str, Any]) -> None:
        """In its document; as it was quoted where that is no longer to be had."""
        answer = self.conversation.last_answer()
        base, file = answer.base if answer else "", source["file_id"]
        try:
            text = await self.call(lambda client: client.document_text(base, file), say("knowledge.opening"))
        except HearthError as error:
            self.app.push_screen(Passage(source, say("passage.alone", reason=error.message)))
            return
        words = passages.words_of(self.conversation.question_of(answer) if answer else "")
        title = f"[{source['number']}] {place(source)}"
        self.app.push_screen(DocumentView(title, text, source["begins"], source["ends"], words))

    def show_conversation(self) -> None:
        last = self.conversation.last_answer()
        self._sources = last.sources if last else []
        if self.conversation.model in self._models:
            self._model = self.conversation.model
        if self.conversation.turns:
            self._base = self.conversation.base if self.conversation.base in self._bases else None
        self.refresh(recompose=True)
