"""Knowledge bases: what is in them, putting documents in, searching them, taking them elsewhere."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import ContentSwitcher, DataTable, Input, OptionList, Static
from textual.widgets.option_list import Option

from appliance.errors import HearthError
from tui import documents, passages
from tui.dialogs.document import DocumentView
from tui.dialogs.path import PathQuestion
from tui.dialogs.text import TextQuestion
from tui.language import say
from tui.screens.base import BREAKPOINTS, flow
from tui.screens.knowledge_work import KnowledgeWork
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable

DOCUMENTS, PASSAGES, FOLDERS = "knowledge-documents", "knowledge-passages", "knowledge-folders"


class Knowledge(KnowledgeWork):
    NAME = "knowledge"
    AUTO_FOCUS = "#knowledge-base-table"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask", "knowledge.ask", key_display="/"),
        Binding("a", "add", "knowledge.add"),
        Binding("n", "create", "knowledge.create"),
        Binding("w", "watch", "knowledge.watch"),
        Binding("f", "folders", "knowledge.folders"),
        Binding("r", "reindex", "knowledge.reindex", show=False),
        Binding("e", "export", "knowledge.export", show=False),
        Binding("i", "import", "knowledge.import", show=False),
        Binding("d,delete", "remove", "knowledge.remove"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._bases: dict[str, dict[str, Any]] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        self._folders: dict[str, dict[str, Any]] = {}
        self._hits: list[dict[str, Any]] = []
        self._words: re.Pattern[str] | None = None
        self._base = ""

    def body(self) -> ComposeResult:
        with Container(id="knowledge"):
            with Panel(say("knowledge.bases"), id="knowledge-bases"):
                yield LiveTable(
                    [say(f"knowledge.{name}") for name in ("name", "documents", "failed", "size", "state")],
                    id="knowledge-base-table",
                )
                yield Static(say("knowledge.no_bases"), id="knowledge-none", classes="muted")
            with Panel("", id="knowledge-inside"):
                yield Input(placeholder=say("knowledge.ask_hint"), id="knowledge-query", compact=True)
                with ContentSwitcher(initial=DOCUMENTS):
                    yield LiveTable(
                        [say(f"knowledge.{name}") for name in ("document", "size", "state")], id=DOCUMENTS
                    )
                    yield OptionList(id=PASSAGES)
                    yield LiveTable(
                        [say(f"knowledge.{name}") for name in ("folder", "documents", "state")], id=FOLDERS
                    )

    def feeds(self) -> tuple[str, ...]:
        return ("bases", f"documents:{self._base}") if self._base else ("bases",)

    def fed(self, feed: str, value: Any) -> None:
        if feed == "bases":
            self._show_bases({base["id"]: base for base in value})
        else:
            self._documents = {each["id"]: each for each in value}
            self.call_after_refresh(self._show_documents)  # reasons are cut to the room there is then

    def _show_bases(self, bases: dict[str, dict[str, Any]]) -> None:
        self._bases = bases
        table = self.query_one("#knowledge-base-table", LiveTable)
        table.show({id: documents.base_row(base) for id, base in bases.items()})
        table.display = bool(bases)
        self.query_one("#knowledge-none").display = not bases
        if self._base not in bases:
            self._go_to(table.chosen or "")
        self._entitle()

    @on(DataTable.RowHighlighted, "#knowledge-base-table")
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        if event.row_key.value:
            self._go_to(event.row_key.value)

    def _go_to(self, base: str) -> None:
        """Show the inside of another base."""
        if base == self._base:
            return
        self._base, self._documents = base, {}
        self.query_one(f"#{DOCUMENTS}", LiveTable).show({})
        self._turn_to(DOCUMENTS)
        self.take_feeds()

    def _turn_to(self, view: str) -> None:
        self.query_one(ContentSwitcher).current = view
        self.query_one("#knowledge-inside").border_subtitle = ""
        self._entitle()

    @property
    def _view(self) -> str:
        return self.query_one(ContentSwitcher).current or DOCUMENTS

    def _entitle(self) -> None:
        base, panel = self._bases.get(self._base), self.query_one("#knowledge-inside")
        panel.display = base is not None
        if base is not None:
            panel.border_title = documents.title(base, self._view.removeprefix("knowledge-"))

    def _show_documents(self) -> None:
        rows = documents.refused_rows(self.refused.get(self._base, {}))
        table = self.query_one(f"#{DOCUMENTS}", LiveTable)
        table.show(rows | documents.document_rows(self._documents, table.size.width))

    # Searching

    def action_ask(self) -> None:
        self.query_one("#knowledge-query").focus()

    @on(Input.Submitted, "#knowledge-query")
    def _submit(self, event: Input.Submitted) -> None:
        if event.value.strip() and self._base:
            self._search(event.value.strip())

    @flow
    async def _search(self, query: str) -> None:
        base = self._base
        found = await self.call(lambda client: client.search(base, query), say("knowledge.searching"))
        self._hits, self._words = found["data"], passages.words_of(query)
        self._turn_to(PASSAGES)
        entries = self.query_one(f"#{PASSAGES}", OptionList)
        entries.clear_options()
        entries.add_options(
            Option(passages.entry(number, hit, self._words)) for number, hit in enumerate(self._hits, 1)
        )
        if not self._hits:
            entries.add_option(Option(say("knowledge.nothing_found"), disabled=True))
        panel = self.query_one("#knowledge-inside")
        panel.border_subtitle = passages.timings(found)
        entries.focus()
        entries.highlighted = 0 if self._hits else None

    @on(OptionList.OptionSelected, f"#{PASSAGES}")
    def _open_hit(self, event: OptionList.OptionSelected) -> None:
        self._open(self._hits[event.option_index])

    @flow
    async def _open(self, hit: dict[str, Any]) -> None:
        """A passage in its document."""
        base, file, where = self._base, hit["file_id"], hit["place"]
        text = await self.call(lambda client: client.document_text(base, file), say("knowledge.opening"))
        title = passages.place(hit["filename"], where)
        self.app.push_screen(DocumentView(title, text, where["begins"], where["ends"], self._words))

    @on(DataTable.RowSelected, f"#{DOCUMENTS}")
    def _open_document(self, event: DataTable.RowSelected) -> None:
        document = self._documents.get(event.row_key.value or "")
        if document is not None and document["status"] == "completed":
            self._read(document)
        elif document is not None and document["last_error"]:
            self.show_error(HearthError(document["last_error"]["message"]))

    @flow
    async def _read(self, document: dict[str, Any]) -> None:
        base, file = self._base, document["id"]
        text = await self.call(lambda client: client.document_text(base, file), say("knowledge.opening"))
        self.app.push_screen(DocumentView(document["filename"], text))

    def action_put_away(self) -> None:
        """Found passages and folders are put away before anything else that is not awaited or wrong."""
        if self.is_busy or self._view == DOCUMENTS:
            super().action_put_away()
        else:
            self._turn_to(DOCUMENTS)
            self.query_one(f"#{DOCUMENTS}").focus()

    # Folders

    @flow
    async def action_folders(self) -> None:
        if not self._base:
            return
        await self._list_folders()
        self._turn_to(FOLDERS)
        self.query_one(f"#{FOLDERS}").focus()

    async def _list_folders(self) -> None:
        base = self._base
        found = await self.call(lambda client: client.folders(base), say("knowledge.asking_folders"))
        self._folders = {each["id"]: each for each in found}
        self.query_one(f"#{FOLDERS}", LiveTable).show(documents.folder_rows(found))

    @flow
    async def action_watch(self) -> None:
        if not self._base:
            return
        title = say("knowledge.watch_title", base=self._base_name)
        question = TextQuestion(title, say("knowledge.watch_text"))
        path = await self.app.push_screen_wait(question)
        if path:
            base = self._base
            await self.call(
                lambda client: client.call("POST", f"/v1/vector_stores/{base}/folders", {"path": path}),
                say("knowledge.watching"),
            )
            await self._list_folders()
            self._turn_to(FOLDERS)

    @property
    def _base_name(self) -> str:
        return str(self._bases[self._base]["name"])

    # Changing

    @flow
    async def action_create(self) -> None:
        made = await self.make_base()
        if made is not None:
            bases = await self.call(lambda client: client.bases(), say("knowledge.creating"))
            self._show_bases({base["id"]: base for base in bases})
            self.query_one("#knowledge-base-table", LiveTable).choose(made)
            self._go_to(made)

    @flow
    async def action_add(self) -> None:
        if not self._base:
            self.action_create()
            return
        question = PathQuestion(say("knowledge.add_title", base=self._base_name), say("knowledge.add_text"))
        path = await self.app.push_screen_wait(question)
        if path is not None:
            await self.put_in(self._base, path)
            self._show_documents()

    @flow
    async def action_reindex(self) -> None:
        if self._base:
            await self.reindex(self._bases[self._base])

    @flow
    async def action_export(self) -> None:
        if self._base:
            await self.export(self._bases[self._base])

    @flow
    async def action_import(self) -> None:
        await self.bring_in()

    @flow
    async def action_remove(self) -> None:
        """What the cursor is on: a folder, a document, or the base."""
        if not self._base:
            return
        base, table = self._bases[self._base], self.focused
        chosen = table.chosen if isinstance(table, LiveTable) else None
        if chosen and self._view == FOLDERS and chosen in self._folders:
            if await self.leave_folder(base, self._folders[chosen]):
                await self._list_folders()
        elif chosen and table is self.query_one(f"#{DOCUMENTS}"):
            if chosen in self._documents:
                await self.remove_document(base, self._documents[chosen])
        else:
            await self.remove_base(base)
