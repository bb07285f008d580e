"""The models on this machine's disks: what a folder or stick holds, bringing one in, fetching, checking them.

Long steps are jobs: each runs on a thread, tells how far it is, can be cancelled, and ends exactly once.
Knows the model store, not what is served; `on_installed` is told, on the event loop, of each model that came.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from appliance.admin import CatalogueModel, Folder, FoundModel, JobKind, ModelCatalogue, ModelJob
from appliance.errors import Conflict, Forbidden, HearthError, InvalidValue, NotFound
from models.add import add
from models.errors import ModelError
from models.gguf import is_gguf
from models.library import Library
from models.pack import PACKS, catalogue, load_pack
from models.progress import Advance, Event
from models.store import Installed

KEPT_JOBS = 50
LOCK_SECONDS = 600.0  # that a fetch waits for another process which changes the store
RUNNING_JOBS = 2
FOLDER_ENTRIES = 500
GRAPHS = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
MOUNTS = ("/media", "/mnt", "/run/media", "/Volumes")


class _Stopped(Exception):
    """An operator cancelled the job."""


class Stock:
    """`on_installed` serves a model that came, or says with False that only a restart will. `refusal`: why
    nothing may be fetched from elsewhere now; empty where it may.
    """

    def __init__(
        self, library: Library, on_installed: Callable[[Installed], bool], refusal: Callable[[], str]
    ) -> None:
        self._library = library
        self._store = library.store
        self._on_installed = on_installed
        self._refusal = refusal
        self._jobs: OrderedDict[str, ModelJob] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

    # Looking

    def folder(self, path: str) -> Folder:
        """What lies there; blocks. Raises InvalidValue for what is no folder that can be read."""
        root = Path(path or "/").expanduser()
        if not root.is_absolute():
            raise InvalidValue(
                f"give the whole path of a folder, such as /media/stick; got {path!r}", param="path"
            )
        try:
            entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        except OSError as error:
            raise InvalidValue(f"cannot look into {root}: {error.strerror}", param="path") from error
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        folders = [entry.path for entry in shown if _is_folder(entry)]
        models = [found for entry in shown if (found := _model_at(entry)) is not None]
        return Folder(
            path=str(root),
            parent=str(root.parent) if root.parent != root else None,
            folders=tuple(folders[:FOLDER_ENTRIES]),
            models=tuple(models[:FOLDER_ENTRIES]),
            media=tuple(_media()),
            is_cut=max(len(folders), len(models)) > FOLDER_ENTRIES,
        )

    def catalogue(self) -> ModelCatalogue:
        """The models that could be fetched; blocks."""
        packs = [load_pack(name) for name in PACKS]
        here = {model.name for model in self._library.list()}
        models = tuple(
            CatalogueModel(
                name=model.name,
                role=model.role,
                bytes=model.bytes,
                licence=model.licence,
                languages=model.languages,
                description=model.description,
                packs=tuple(pack.name for pack in packs if model in pack.models),
                is_here=model.name in here,
            )
            for model in catalogue().models()
        )
        return ModelCatalogue(data=models, refusal=self._refusal())

    def jobs(self) -> tuple[ModelJob, ...]:
        """Newest first."""
        return tuple(reversed(self._jobs.values()))

    def job(self, id: str) -> ModelJob:
        """Raises NotFound."""
        if id not in self._jobs:
            raise NotFound(f"there is no job {id!r}; the last {KEPT_JOBS} are kept", param="job")
        return self._jobs[id]

    # Doing

    def bring_in(self, path: str, name: str | None) -> ModelJob:
        """Begins to copy a model from the disk of this machine. Raises Conflict, InvalidValue."""
        source = Path(path).expanduser()
        if not source.is_absolute():
            raise InvalidValue(
                f"give the whole path of a model, such as /media/stick/model.gguf; got {path!r}", param="path"
            )
        if not source.exists():
            raise InvalidValue(f"there is no {source} on the server's machine", param="path")

        def work(tell: Callable[[Event], None]) -> Installed:
            return add(self._store, source, name, tell)

        return self._begin("import", name or source.stem, work)

    def fetch(self, model: str) -> ModelJob:
        """Begins to fetch a model of the catalogue. Raises Conflict, Forbidden, NotFound."""
        self._require_fetching()
        try:
            manifest = catalogue().get(model)
        except ModelError as error:
            raise NotFound(error.message, param="model") from error

        def work(tell: Callable[[Event], None]) -> Installed:
            from models.pull import pull  # with a network client, which no start needs

            return pull(self._store, manifest, progress=tell, wait=LOCK_SECONDS)

        return self._begin("fetch", model, work)

    def fetch_pack(self, name: str) -> ModelJob:
        """The same for all models of a pack that are not here."""
        self._require_fetching()
        try:
            pack = load_pack(name)
        except ModelError as error:
            raise NotFound(error.message, param="pack") from error

        def work(tell: Callable[[Event], None]) -> list[Installed]:
            from models.pull import pull_pack

            return list(pull_pack(self._store, pack, progress=tell, wait=LOCK_SECONDS).installed)

        return self._begin("fetch", name, work)

    def _require_fetching(self) -> None:
        if reason := self._refusal():
            raise Forbidden(reason)

    def verify(self, name: str) -> ModelJob:
        """Begins to hash every file of an installed model. Raises Conflict, NotFound."""
        try:
            self._store.get(name)
        except ModelError as error:
            raise NotFound(error.message, param="model") from error

        def work(tell: Callable[[Event], None]) -> tuple[str, ...]:
            found = self._store.verify(name, tell)
            return tuple(f"{each.file} is {each.state}" for each in found if each.state != "sound")

        return self._begin("verify", name, work)

    def cancel(self, id: str) -> ModelJob:
        """Ends a running job with its next step; one that is over stays as it is. Raises NotFound."""
        job = self.job(id)
        if job.state == "running":
            self._cancelled.add(id)
        return job

    async def stop(self) -> None:
        """Ends what runs; half copies leave nothing behind."""
        self._cancelled.update(self._tasks)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # How

    def _begin(
        self, kind: JobKind, model: str, work: Callable[[Callable[[Event], None]], object]
    ) -> ModelJob:
        if len(self._tasks) >= RUNNING_JOBS:
            raise Conflict(f"{len(self._tasks)} model jobs run already; wait for one, or cancel it")
        job = ModelJob(
            id=f"job-{uuid.uuid4().hex[:12]}", kind=kind, model=model, state="running", began_at=time.time()
        )
        self._jobs[job.id] = job
        while len(self._jobs) > KEPT_JOBS:
            self._jobs.popitem(last=False)
        self._tasks[job.id] = asyncio.create_task(self._run(job.id, work), name=job.id)
        return job

    async def _run(self, id: str, work: Callable[[Callable[[Event], None]], object]) -> None:
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            if id in self._cancelled:
                raise _Stopped
            loop.call_soon_threadsafe(self._progress, id, event)

        try:
            result = await asyncio.to_thread(work, tell)
        except _Stopped:
            self._change(id, state="cancelled")
        except (ModelError, HearthError) as error:
            self._change(id, state="failed", error=error.message)
        except OSError as error:
            self._change(id, state="failed", error=f"the disk refused: {error.strerror or error}")
        else:
            self._finish(id, result)
        finally:
            self._tasks.pop(id, None)
            self._cancelled.discard(id)

    def _finish(self, id: str, result: object) -> None:
        if isinstance(result, Installed):
            is_served = self._serve(id, result)
            self._change(id, state="done", model=result.name, is_served=is_served)
        elif isinstance(result, list):
            served = [self._serve(id, model) for model in result]
            self._change(id, state="done", is_served=any(served))
        elif isinstance(result, tuple) and result:
            wrong = "; ".join(result)
            self._change(id, state="failed", error=f"{wrong}: bring the model in again, or pull it")
        else:
            self._change(id, state="done", is_served=True)

    def _serve(self, id: str, model: Installed) -> bool:
        """Whether the model is served at once; its job tells when it is not."""
        is_served = self._on_installed(model)
        if not is_served:
            self._tell(id, f"{model.name} is installed, and served from the server's next start on")
        return is_served

    def _progress(self, id: str, event: Event) -> None:
        if isinstance(event, Advance):
            self._change(id, file=event.file, done=event.done, total=event.total, eta=event.eta)
        else:
            self._tell(id, event.text)

    def _tell(self, id: str, notice: str) -> None:
        if id in self._jobs:
            self._change(id, notices=(*self._jobs[id].notices, notice))

    def _change(self, id: str, **changes: object) -> None:
        if id in self._jobs:
            self._jobs[id] = msgspec.structs.replace(self._jobs[id], **changes)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _model_at(entry: os.DirEntry[str]) -> FoundModel | None:
    """What of a folder's entries looks like a model, without opening more than its first bytes."""
    path = Path(entry.path)
    try:
        if entry.is_dir():
            graph = next((path / name for name in GRAPHS if (path / name).is_file()), None)
            if graph is None or not (path / "tokenizer.json").is_file():
                return None
            return FoundModel(path=str(path), name=path.name, format="onnx", bytes=graph.stat().st_size)
        if entry.is_file() and path.suffix.lower() == ".gguf" and is_gguf(path):
            return FoundModel(path=str(path), name=path.stem, format="gguf", bytes=entry.stat().st_size)
    except OSError:
        return None
    return None


def _media() -> Iterator[str]:
    """Where sticks and further disks are mounted."""
    for each in psutil.disk_partitions(all=False):
        if each.mountpoint.startswith(MOUNTS):
            yield each.mountpoint
