"""What several screens do with models: bringing them in from a disk, fetching them, loading them.

Knows no table: the screen shows what has become of it by its feeds.
"""

from __future__ import annotations

from rich.cells import cell_len

from appliance.admin import ModelCatalogue, ModelJob
from appliance.client import RemoteError
from tui import format
from tui.dialogs.folder import Chosen, FolderQuestion
from tui.dialogs.pick import Pick
from tui.dialogs.text import TextQuestion
from tui.language import say
from tui.screens.base import HearthScreen

MODEL, PACK = "model", "pack"
GOING = ("loading", "waiting", "unloading")


class ModelsWork(HearthScreen):
    def __init__(self) -> None:
        super().__init__()
        self._folder = "/"

    async def load(self, name: str, keep_alive: str | None = None) -> None:
        """Until it is in memory. Raises RemoteError with what kept it out."""
        await self.call(
            lambda client: client.load_model(name, keep_alive=keep_alive), say("models.loading", name=name)
        )
        status = await self.follow(
            lambda client: client.model_status(name),
            say("models.loading", name=name),
            is_over=lambda status: status.state not in GOING,
            share=lambda status: status.progress,
            cancel=lambda client: client.unload_model(name, force=True),
        )
        self.models_changed()
        if status.error:
            raise RemoteError(status.error, code=status.error_code)

    async def bring_in(self) -> None:
        """A model from the disks of the server's machine."""
        chosen = await self._choose_file()
        if chosen is None:
            return
        name = await self.app.push_screen_wait(
            TextQuestion(
                say("models.import_name"), chosen.path, placeholder=say("models.import_name_default")
            )
        )
        job = await self.call(lambda client: client.import_model(chosen.path, name), say("models.importing"))
        job = await self.watch_job(job, say("models.importing"))
        self._tell_of(job)

    async def _choose_file(self) -> Chosen | None:
        """Goes through the folders of the server's machine until a model is chosen."""
        while True:
            path = self._folder
            folder = await self.call(lambda client, path=path: client.folder(path), say("models.looking"))  # type: ignore[misc]
            chosen = await self.app.push_screen_wait(FolderQuestion(folder))
            if chosen is None or chosen.is_model:
                return chosen
            self._folder = chosen.path

    async def fetch(self) -> None:
        """A model or a pack of the catalogue, over the network of the server's machine."""
        found = await self.call(lambda client: client.catalogue(), say("models.asking_catalogue"))
        if found.refusal:
            self.show_problem(say("models.no_fetch"), found.refusal)
            return
        chosen = await self.app.push_screen_wait(Pick(say("models.fetch_title"), offers(found)))
        if chosen is None:
            return
        kind, _, name = chosen.partition(":")
        what = say("models.fetching", name=name)
        job = await self.call(
            lambda client: client.fetch_pack(name) if kind == PACK else client.fetch_model(name), what
        )
        job = await self.watch_job(job, what)
        self.models_changed()
        self.notify(say("models.fetched" if job.is_served else "models.fetched_for_restart", name=name))

    async def watch_job(self, job: ModelJob, what: str) -> ModelJob:
        """The job when it has ended well. Raises RemoteError."""
        id = job.id
        ended = await self.follow(
            lambda client: client.model_job(id),
            what,
            is_over=lambda job: job.state != "running",
            share=lambda job: job.done / job.total if job.total else None,
            cancel=lambda client: client.cancel_model_job(id),
        )
        if ended.error:
            raise RemoteError(ended.error)
        for notice in ended.notices:
            self.notify(notice)
        return ended

    def _tell_of(self, job: ModelJob) -> None:
        self.models_changed()
        key = "models.imported" if job.is_served else "models.imported_for_restart"
        self.notify(say(key, name=job.model))

    def models_changed(self) -> None:
        self.hearth.feeds.refresh("models", "status")


def offers(found: ModelCatalogue) -> dict[str, str]:
    """What can be fetched: packs that miss something first, then models, by what is answered."""
    packs = dict.fromkeys(pack for model in found.data for pack in model.packs)
    rows: dict[str, tuple[str, str]] = {}
    for pack in packs:
        missing = [model for model in found.data if pack in model.packs and not model.is_here]
        if missing:
            size = format.size(sum(model.bytes for model in missing))
            told = say("models.pack_offer", count=len(missing), size=size)
            rows[f"{PACK}:{pack}"] = (say("models.pack", name=pack), told)
    for model in found.data:
        state = say("models.here") if model.is_here else format.size(model.bytes)
        facts = (say(f"role.{model.role}"), state, model.licence)
        rows[f"{MODEL}:{model.name}"] = (model.name, " · ".join(facts))
    width = 2 + max((cell_len(name) for name, _ in rows.values()), default=0)
    return {key: f"{format.fit(name, width)}{told}" for key, (name, told) in rows.items()}
