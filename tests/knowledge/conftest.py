"""A Knowledge on a real encoder process with the tiny pack's embedder, in a directory of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from appliance import paths
from appliance.activity import Activities
from appliance.config.schema import Knowledge as KnowledgeSettings
from appliance.config.schema import Settings
from appliance.knowledge.embedding import ServedEmbedder, fingerprint
from appliance.knowledge.service import Knowledge
from appliance.orders import encoder_order
from appliance.principal import LOCAL
from appliance.store.rows import Document, StoredFile
from appliance.workers.handles import EncoderHandle
from appliance.workers.supervisor import Supervisor
from models.store import Store
from tests.conftest import require
from tests.serving import EMBED, MULTILINGUAL, RERANK, store_directory

Result = TypeVar("Result")
OpenKnowledge = Callable[..., AbstractAsyncContextManager[Knowledge]]


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def upload(knowledge: Knowledge, name: str, content: bytes | str) -> StoredFile:
    raw = content.encode() if isinstance(content, str) else content
    return await knowledge.files.store(LOCAL, name, "assistants", pieces(raw))


@asynccontextmanager
async def opened(
    directory: Path,
    models: tuple[str, ...] = (EMBED,),
    settings: KnowledgeSettings | None = None,
    **options: object,
) -> AsyncIterator[Knowledge]:
    """A running Knowledge over `directory`."""
    async with opened_with_encoder(directory, models, settings, **options) as (knowledge, _):
        yield knowledge


@asynccontextmanager
async def opened_with_encoder(
    directory: Path,
    models: tuple[str, ...] = (EMBED,),
    settings: KnowledgeSettings | None = None,
    **options: object,
) -> AsyncIterator[tuple[Knowledge, EncoderHandle]]:
    """A running Knowledge over `directory`, and the encoder process of its own that it uses."""
    store = Store(store_directory())
    installed = [store.get(name) for name in models]
    order = encoder_order(installed, store, Settings())
    supervisor = Supervisor(role="encoder", order=order, program=paths.self_command())
    encoder = EncoderHandle(supervisor, 60, Activities())
    rerankers = [model for model in order.models if model.role == "rerank"]
    knowledge = Knowledge(
        directory / "knowledge",
        directory / "cache",
        paths.self_command(),
        encoder,
        [
            ServedEmbedder(model, fingerprint(each.manifest))
            for model, each in zip(order.models, installed, strict=True)
            if model.role == "embed"
        ],
        rerankers[0] if rerankers else None,
        settings or KnowledgeSettings(),
        **options,  # type: ignore[arg-type]
    )
    encoder.supervisor.start()
    knowledge.start()
    try:
        yield knowledge, encoder
    finally:
        await knowledge.stop()
        await encoder.supervisor.stop(5)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Knowledge], Awaitable[Result]]], Result]:
    """Runs a coroutine function on a fresh Knowledge."""
    require((EMBED,))

    def runner(work: Callable[[Knowledge], Awaitable[Result]]) -> Result:
        async def main() -> Result:
            async with opened(tmp_path) as knowledge:
                return await work(knowledge)

        return asyncio.run(main())

    return runner


__all__ = ["EMBED", "MULTILINGUAL", "RERANK", "Document", "opened", "pieces", "run", "upload"]
