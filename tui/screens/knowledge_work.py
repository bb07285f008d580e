"""What is done to a knowledge base from its screen: each asks, does it with a visible wait, and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui import documents, format
from tui.dialogs.form import Field, Form
from tui.dialogs.path import PathQuestion
from tui.language import say
from tui.screens.base import HearthScreen

if TYPE_CHECKING:
    from appliance.client.documents import Adding, Export, Importing, Outcome
    from appliance.client.knowledge import KnowledgeClient

    Work = Adding | Importing | Export


class KnowledgeWork(HearthScreen):
    """`refused`: documents that could not be sent, by base and path, with the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, dict[str, str]] = {}

    async def make_base(self) -> str | None:
        """The new base's id."""
        models = await self.call(lambda client: client.models(), say("knowledge.asking_models"))
        embedders = [(model["id"], model["id"]) for model in models if model["role"] == "embed"]
        choices = (("", say("knowledge.default_embedder")), *embedders)
        form = Form(
            say("knowledge.create_title"),
            (
                Field("name", say("knowledge.name")),
                Field("description", say("knowledge.description")),
                Field("embedder", say("knowledge.embedder"), choices=choices),
            ),
            do=say("knowledge.create_do"),
            check=documents.check_new_base,
        )
        values = await self.app.push_screen_wait(form)
        if not values:
            return None
        options = {key: value for key, value in values.items() if value and key != "name"}
        made = await self.call(
            lambda client: client.create(values["name"], **options), say("knowledge.creating")
        )
        self.hearth.feeds.refresh("bases")
        self.notify(say("knowledge.created", base=values["name"]))
        return str(made["id"])

    async def put_in(self, base: str, path: Path) -> None:
        from appliance.client.documents import Adding

        self.refused.pop(base, None)
        done = await self._work(lambda client: Adding(client, base, [path]), say("knowledge.adding"), base)
        assert isinstance(done, Adding)
        said = say("knowledge.added", added=done.read, unchanged=done.unchanged, failed=done.failed)
        self.notify(said, severity="warning" if done.failed else "information")

    async def bring_in(self) -> None:
        from appliance.client.documents import Importing

        path = await self.app.push_screen_wait(PathQuestion(say("knowledge.import_title")))
        if path is None:
            return
        done = await self._work(lambda client: Importing(client, path), say("knowledge.importing"))
        assert isinstance(done, Importing)
        said = say("knowledge.imported", base=done.name, added=done.read, failed=done.failed)
        self.notify(said, severity="warning" if done.failed else "information")

    async def export(self, base: dict[str, Any]) -> None:
        from appliance.client.documents import Export

        suggested = await asyncio.to_thread(Path.cwd)
        question = PathQuestion(
            say("knowledge.export_title", base=base["name"]),
            say("knowledge.export_text"),
            str(suggested / f"{base['name']}.zip"),
            must_exist=False,
        )
        path = await self.app.push_screen_wait(question)
        if path is None:
            return
        if await asyncio.to_thread(path.exists) and not await self.confirm(
            say("knowledge.overwrite", path=path),
            say("knowledge.overwrite_lost"),
            say("knowledge.overwrite_do"),
        ):
            return
        done = await self._work(lambda client: Export(client, base, path), say("knowledge.exporting"))
        assert isinstance(done, Export)
        said = say("knowledge.exported", count=done.written, path=path, left=done.left_out)
        self.notify(said, severity="warning" if done.left_out else "information")

    async def _work(self, begin: Any, what: str, base: str = "") -> Work:
        """Does what `begin` makes of the client; an interruption takes back what it leaves loose."""
        begun: list[Work] = []

        def outcomes(client: KnowledgeClient) -> Iterator[Outcome]:
            begun.append(begin(client))
            return iter(begun[0])

        with self.waiting(what) as wait:
            try:
                async for told in self.hearth.backend.stream(outcomes):
                    wait.share = begun[0].share
                    for outcome in told:
                        if outcome.state == "failed" and base and "/" in outcome.name:
                            self.refused.setdefault(base, {})[outcome.name] = outcome.reason
            except asyncio.CancelledError:
                if begun and hasattr(begun[0], "take_back"):
                    await self.hearth.backend.run(lambda _: begun[0].take_back())  # type: ignore[union-attr]
                raise
            finally:
                self.hearth.feeds.refresh()
        return begun[0]

    async def reindex(self, base: dict[str, Any]) -> None:
        models = await self.call(lambda client: client.models(), say("knowledge.asking_models"))
        embedders = tuple((model["id"], model["id"]) for model in models if model["role"] == "embed")
        field = Field("embedder", say("knowledge.embedder"), base["embedder"], choices=embedders)
        if embedders and base["embedder"] not in dict(embedders):
            field = field._replace(value=embedders[0][0])
        form = Form(
            say("knowledge.reindex_title", base=base["name"]),
            [field],
            text=say("knowledge.reindex_text"),
            do=say("knowledge.reindex_do"),
        )
        values = await self.app.push_screen_wait(form)
        if values:
            path = f"/v1/vector_stores/{base['id']}/reindex"
            done = await self.call(
                lambda client: client.call("POST", path, values), say("knowledge.reindexing")
            )
            self.notify(say("knowledge.reindexed", count=done["documents"]))
            self.hearth.feeds.refresh()

    async def remove_base(self, base: dict[str, Any]) -> None:
        from appliance.client.documents import remove_base

        lost = say(
            "knowledge.remove_lost",
            count=base["file_counts"]["total"],
            size=format.size(base["usage_bytes"]),
        )
        question = say("knowledge.remove_question", base=base["name"])
        if await self.confirm(question, lost, say("knowledge.remove_do")):
            gone = await self.call(lambda client: remove_base(client, base["id"]), say("knowledge.removing"))
            said = say("knowledge.removed", base=base["name"], count=gone.documents, kept=gone.kept)
            self.notify(said)
            self.hearth.feeds.refresh()

    async def remove_document(self, base: dict[str, Any], document: dict[str, Any]) -> None:
        question = say("knowledge.drop_question", document=document["filename"], base=base["name"])
        if await self.confirm(question, say("knowledge.drop_lost"), say("knowledge.remove_do")):
            await self.call(
                lambda client: client.call("DELETE", f"/v1/files/{document['id']}"), say("knowledge.removing")
            )
            self.hearth.feeds.refresh()

    async def leave_folder(self, base: dict[str, Any], folder: dict[str, Any]) -> bool:
        """Whether it is followed no more."""
        question = say("knowledge.unwatch_question", path=folder["path"])
        lost = say("knowledge.unwatch_lost", count=folder["files"])
        if not await self.confirm(question, lost, say("knowledge.unwatch_do")):
            return False
        path = f"/v1/vector_stores/{base['id']}/folders/{folder['id']}"
        await self.call(lambda client: client.call("DELETE", path), say("knowledge.unwatching"))
        return True
