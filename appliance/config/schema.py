"""Every setting: its name, type, bounds, default and what it is for.

This is the one list: `load` layers files, environment and flags over it, `hearth config` prints it, and
docs/CONFIG.md is checked against it. A setting's environment variable is `HEARTH_` and its dotted name in
capitals with `_` for `.`: `generator.slots` is `HEARTH_GENERATOR_SLOTS`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from appliance.config.access import Access, Tls
from appliance.config.audit import Audit, Privacy
from appliance.config.routing import Routing
from appliance.config.tools import Tools

MiB = 1024 * 1024

PackName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Generator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Chat models: batching, cache and sampling defaults."""

    slots: Annotated[
        int, Meta(ge=1, le=128, description="answers generated at the same time, per model; others wait")
    ] = 16
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="compute threads per model; 0: one per processor core")
    ] = 0
    context_length: Annotated[
        int,
        Meta(ge=0, le=16_777_216, description="most tokens of one request; 0: as many as the model allows"),
    ] = 0
    cells: Annotated[
        int,
        Meta(
            ge=0,
            le=16_777_216,
            description="tokens of KV cache per model, shared by its requests; 0: chosen from the memory",
        ),
    ] = 0
    batch_tokens: Annotated[
        int,
        Meta(ge=32, le=8192, description="most tokens computed in one step, prompts and answers"),
    ] = 512
    queue_requests: Annotated[
        int, Meta(ge=0, le=100_000, description="requests that may wait for a slot, per model")
    ] = 128
    queue_tokens: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="prompt tokens that may wait for a slot, per model")
    ] = 524_288
    cache_type: Annotated[
        Literal["f16", "q8_0"],
        Meta(description="precision of the KV cache; q8_0 halves its memory and costs some speed"),
    ] = "f16"
    flash_attention: Annotated[
        Literal["auto", "on", "off"], Meta(description="llama.cpp's flash attention; q8_0 caches need it")
    ] = "auto"
    weights: Annotated[
        Literal["map", "repack"],
        Meta(description="map weights in place, or copy them into an order that the processor reads faster"),
    ] = "repack"
    draft: Annotated[
        bool, Meta(description="guess ahead where an answer repeats its context, and check the guesses")
    ] = True
    draft_models: Annotated[
        dict[str, str],
        Meta(
            max_length=64,
            description="for each model, an installed smaller one of its vocabulary that drafts for it",
        ),
    ] = {}
    memory: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 50,
            description="bytes that all chat models together may take; 0: 3/4 of what is free at the start",
        ),
    ] = 0
    keep_alive: Annotated[
        float,
        Meta(
            ge=-1,
            le=31_622_400,
            description="seconds that an unused model stays in memory; -1: until its memory is needed",
        ),
    ] = -1.0
    pinned: Annotated[
        tuple[str, ...],
        Meta(max_length=64, description="names of chat models that are loaded at the start and stay"),
    ] = ()
    prefix_memory: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="bytes of memory per model for beginnings of prompts, beside the KV cache; 0: off",
        ),
    ] = 256 * MiB
    prefix_disk: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 50,
            description="bytes of disk per model for beginnings that several requests had; 0: none",
        ),
    ] = 1024 * MiB
    prefix_sharing: Annotated[
        Literal["all", "key"],
        Meta(description="whether a beginning that one key's request computed may serve those of other keys"),
    ] = "all"
    template_seconds: Annotated[
        float, Meta(gt=0, le=60, description="longest time that a model's chat template may take")
    ] = 1.0
    end_circles: Annotated[
        bool,
        Meta(description="end an answer that says one passage again and again, with a warning"),
    ] = True
    temperature: Annotated[float, Meta(ge=0, le=2, description="temperature of requests that name none")] = (
        0.7
    )
    top_p: Annotated[float, Meta(gt=0, le=1, description="top_p of requests that name none")] = 0.95
    top_k: Annotated[
        int, Meta(ge=0, le=1_000_000, description="top_k of requests that name none; 0 is off")
    ] = 40
    min_p: Annotated[float, Meta(ge=0, le=1, description="min_p of requests that name none")] = 0.05


class Encoder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Embedding and rerank models."""

    threads: Annotated[int, Meta(ge=0, le=1024, description="compute threads; 0: one per processor core")] = 0
    batch_tokens: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="most padded tokens of one batch; 0: chosen from the threads"),
    ] = 0
    queue_requests: Annotated[
        int, Meta(ge=1, le=100_000, description="requests that may wait for the encoder")
    ] = 256


class Knowledge(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Knowledge bases: what goes in, and how it is found."""

    enabled: Annotated[
        bool, Meta(description="keep knowledge bases in this home; one process at a time may")
    ] = True
    embedder: Annotated[
        str,
        Meta(max_length=96, description="embedding model of new bases; empty: the one with most languages"),
    ] = ""
    chunk_tokens: Annotated[
        int, Meta(ge=16, le=4096, description="tokens of a chunk at most, where a base says nothing else")
    ] = 256
    overlap_tokens: Annotated[
        int, Meta(ge=0, le=2048, description="tokens that a chunk repeats of the one before it, at most")
    ] = 32
    rerank: Annotated[
        bool, Meta(description="reorder found passages with the reranker where it reads the language")
    ] = False
    min_relevance: Annotated[
        float,
        Meta(ge=0, le=1, description="how well a question must fit a base for its passages to be cited"),
    ] = 0.55
    file_bytes: Annotated[
        int, Meta(ge=1024, le=16 * 1024 * MiB, description="largest file that may be uploaded")
    ] = 512 * MiB
    queue_documents: Annotated[
        int, Meta(ge=1, le=10_000_000, description="documents that may wait to be read")
    ] = 100_000
    extract_memory_bytes: Annotated[
        int, Meta(ge=64 * MiB, le=64 * 1024 * MiB, description="memory that reading one document may take")
    ] = 1024 * MiB
    extract_seconds: Annotated[Seconds, Meta(description="time that reading one document may take")] = 120.0
    cache_entries: Annotated[
        int,
        Meta(ge=0, le=100_000_000, description="embeddings kept on disk so that no text is embedded twice"),
    ] = 200_000
    answer_cache_seconds: Annotated[
        float,
        Meta(ge=0, le=31_536_000, description="how long an answer from a base may be given again; 0: never"),
    ] = 0.0


class Archive(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Responses, conversations, chats and batches that clients ask to have kept."""

    enabled: Annotated[
        bool, Meta(description="keep responses, conversations, stored chats and batches in this home")
    ] = True
    days: Annotated[
        int, Meta(ge=1, le=36_500, description="days that responses and stored chats are kept")
    ] = 30
    entries: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="most kept objects of a kind; the oldest responses and chats go first",
        ),
    ] = 10_000
    items: Annotated[int, Meta(ge=1, le=1_000_000, description="most items of one conversation")] = 4096
    batch_parallel: Annotated[
        int, Meta(ge=1, le=1024, description="lines of a batch that are answered at the same time")
    ] = 4
    background: Annotated[
        int, Meta(ge=1, le=10_000, description="responses that may run or wait in the background")
    ] = 64


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client may send, and how long things may take."""

    body_bytes: Annotated[
        int, Meta(ge=1024, le=1024 * MiB, description="largest request body; a larger one is refused unread")
    ] = 32 * MiB
    json_depth: Annotated[int, Meta(ge=4, le=200, description="deepest nesting of a JSON body")] = 64
    connections: Annotated[
        int, Meta(ge=1, le=100_000, description="connections open at once; more are answered 503")
    ] = 1024
    address_connections: Annotated[
        int, Meta(ge=1, le=100_000, description="connections of one address at once; more are closed")
    ] = 512
    header_bytes: Annotated[
        int, Meta(ge=1024, le=1024 * 1024, description="bytes that a request's line and headers may take")
    ] = 64 * 1024
    header_count: Annotated[int, Meta(ge=8, le=1000, description="headers that a request may have")] = 100
    receive_seconds: Annotated[
        Seconds, Meta(description="how long a request's headers may take to arrive, in seconds")
    ] = 6.0
    stall_seconds: Annotated[
        Seconds,
        Meta(description="a client that sends or takes less than stall_rate for so long is left"),
    ] = 6.0
    stall_rate: Annotated[
        int, Meta(ge=1, le=1024 * MiB, description="bytes a second that a body must arrive or leave with")
    ] = 256
    idle_seconds: Annotated[
        Seconds, Meta(description="how long a connection without a request stays open, in seconds")
    ] = 75.0
    load_wait: Annotated[
        Seconds, Meta(description="how long a request waits for its model to be loaded, in seconds")
    ] = 30.0
    heartbeat: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="seconds between comments in a stream that waits for its first token; 0: none",
        ),
    ] = 5.0
    drain: Annotated[
        Seconds, Meta(description="how long running requests may take to finish at a stop, in seconds")
    ] = 30.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set."""

    host: Annotated[
        str, Meta(min_length=1, max_length=255, description="address to listen on; loopback needs no key")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="port to listen on; 0: any free one, printed at the start")
    ] = 8080
    pack: Annotated[PackName, Meta(description="the set of models to serve: tiny or starter")] = "starter"
    models: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="names of the models to serve; empty: the pack's, and those you added yourself",
        ),
    ] = ()
    pull: Annotated[
        Literal["missing", "never"],
        Meta(description="fetch the pack's missing models at the start, or never touch the network"),
    ] = "missing"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least important message to log")
    ] = "info"
    upgrade_backup: Annotated[
        bool, Meta(description="make a backup before a newer version changes this home's databases")
    ] = True
    log_format: Annotated[
        Literal["text", "json"],
        Meta(description="lines of the log: text for people, or one JSON object each"),
    ] = "text"
    config_api: Annotated[
        bool,
        Meta(description="let the admin API change hearth.toml; who can reach the server then rules it"),
    ] = False
    generator: Generator = field(default_factory=Generator)
    encoder: Encoder = field(default_factory=Encoder)
    knowledge: Knowledge = field(default_factory=Knowledge)
    archive: Archive = field(default_factory=Archive)
    audit: Audit = field(default_factory=Audit)
    privacy: Privacy = field(default_factory=Privacy)
    limits: Limits = field(default_factory=Limits)
    tls: Tls = field(default_factory=Tls)
    access: Access = field(default_factory=Access)
    routing: Routing = field(default_factory=Routing)
    tools: Tools = field(default_factory=Tools)
