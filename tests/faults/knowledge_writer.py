"""A process that takes documents in and out of a knowledge base until it is killed, and says what is done.

    python -m tests.faults.knowledge_writer DIRECTORY SEED

A real Knowledge with its extractor process, SQLite and index; vectors come out of the cache that the parent
has filled. Graphs are made from a few chunks on and saved all the time, so that a kill falls into every kind
of work. Each line is printed after what it says was answered: `in N ID`, `going ID`, `gone ID`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from appliance import paths
from appliance.config.schema import Knowledge as Settings
from appliance.config.schema import Settings as AllSettings
from appliance.errors import NotFound
from appliance.knowledge.embedding import ServedEmbedder, fingerprint
from appliance.knowledge.service import Knowledge
from appliance.knowledge.views import NewDocument
from appliance.orders import encoder_order
from appliance.principal import LOCAL
from appliance.store import index
from models.store import Store
from tests.knowledge.conftest import pieces
from tests.serving import EMBED, store_directory

DOCUMENTS = 40
MOST_TOGETHER = 6  # documents put in at once now and then: they are read and committed together
BASE = "killed"
GRAPH_FROM = 24
ABSORB_FROM = 8


def content(number: int) -> str:
    words = random.Random(number)
    sentences = [
        f"Fact {number}.{line} says that item {words.randrange(10**6)} weighs {words.randrange(100)} grams."
        for line in range(1 + number % 40)
    ]
    return f"# Sheet {number}\n\n" + "\n\n".join(sentences)


def served_embedder() -> ServedEmbedder:
    store = Store(store_directory())
    installed = store.get(EMBED)
    (model,) = encoder_order([installed], store, AllSettings()).models
    return ServedEmbedder(model, fingerprint(installed.manifest))


async def write(directory: Path, seed: int) -> None:
    choice = random.Random(seed)
    knowledge = Knowledge(
        directory / "knowledge",
        directory / "cache",
        paths.self_command(),
        None,
        [served_embedder()],
        None,
        Settings(),
        graph_from=GRAPH_FROM,
    )
    knowledge.start()
    print("open", flush=True)
    try:
        base = (await knowledge.bases.find(LOCAL, BASE)).id
    except NotFound:
        base = (await knowledge.bases.create(LOCAL, BASE)).id
    there: list[str] = []
    while True:
        numbers = choice.sample(range(DOCUMENTS), choice.choice((1, 1, MOST_TOGETHER)))
        files = [
            await knowledge.files.store(LOCAL, f"{number}.md", "assistants", pieces(content(number).encode()))
            for number in numbers
        ]
        await knowledge.documents.add(LOCAL, base, [NewDocument(file.id) for file in files])
        await knowledge.documents.wait_until_read(LOCAL, base)
        for number, file in zip(numbers, files, strict=True):
            document = await knowledge.documents.get(LOCAL, base, file.id)
            assert document.status == "completed", document.error_message
            print(f"in {number} {file.id}", flush=True)
            there.append(file.id)
        await knowledge.search(LOCAL, base, ["Fact 1.0"], 3)
        if len(there) > 3 and choice.random() < 0.3:
            going = there.pop(choice.randrange(len(there)))
            print(f"going {going}", flush=True)
            await knowledge.files.remove(LOCAL, going)
            print(f"gone {going}", flush=True)


def main() -> None:
    index.SAVE_SECONDS = 0.0
    index.ABSORB_FROM = ABSORB_FROM
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
