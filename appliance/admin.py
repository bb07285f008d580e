"""The records of the admin API: what a server tells its operators, through the client.

Plain data, shared by both sides so that neither can fall behind the other. Units: times are seconds (points
in time since the epoch), sizes bytes, lengths tokens. None: not known, or there is none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.principal import Grant

Health = Literal["ready", "not_ready", "draining"]
Severity = Literal["warning", "problem"]
PointInTime = Annotated[float, Meta(ge=0, le=1e11)]


class ModelStatus(Struct, frozen=True, kw_only=True):
    """A model of this machine. `state`: ready, loading, waiting (for room), down (its worker is), unloading,
    unloaded, failed. `bytes_estimated` 0: it shares the encoder's process, or could not be read.
    `keep_alive` -1: until its memory is needed. `needs`: the estimate in words.
    """

    name: str
    role: str
    state: str
    progress: float
    worker: str
    context_length: int
    bytes_estimated: int = 0
    needs: str = ""
    is_pinned: bool = False
    is_resident_at_start: bool = False
    running: int = 0
    waiting: int = 0
    last_used: float | None = None
    keep_alive: float = -1
    expires_at: float | None = None
    cells: int = 0
    adapters: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None


class ModelStatusList(Struct, frozen=True, kw_only=True):
    """`memory`: bytes that chat models may take; `memory_resident`: what those there take, as estimated."""

    data: tuple[ModelStatus, ...]
    memory: int
    memory_resident: int


class ActiveRequest(Struct, frozen=True, kw_only=True):
    """A request that is with a model. `id` is good for cancelling; `request` is the HTTP request's own id.
    `phase`: loading (its model), queued, running. `tokens`: of the answer, so far.
    """

    id: str
    request: str
    kind: str
    model: str
    phase: str
    started_at: float
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    tokens: int


class ActiveRequestList(Struct, frozen=True, kw_only=True):
    data: tuple[ActiveRequest, ...]


class CancelledRequests(Struct, frozen=True, kw_only=True):
    """How many requests were ended."""

    cancelled: int


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker process. `memory_rss` counts what it shares with others whole, `memory_pss` its share of that.
    `cells`: tokens that the KV cache can hold. Figures of the work are None while it does not answer.
    """

    name: str
    role: str
    state: str
    models: tuple[str, ...]
    progress: float
    restarts: int
    error: str | None = None
    pid: int | None = None
    memory_rss: int | None = None
    memory_pss: int | None = None
    running: int | None = None
    waiting: int | None = None
    slots: int | None = None
    cells: int | None = None
    cells_used: int | None = None
    steps: int | None = None
    preemptions: int | None = None


class ModelSpeed(Struct, frozen=True, kw_only=True):
    """A model's tokens per second over the last 10 s, and first-token times of its last answers."""

    model: str
    tokens_per_second: float
    answers: int
    first_token_p50: float | None = None
    first_token_p99: float | None = None


class MemoryStatus(Struct, frozen=True, kw_only=True):
    """`models`: what chat models may take; `models_resident`: what those in memory take, as estimated."""

    total: int
    available: int
    models: int
    models_resident: int
    gateway_rss: int
    gateway_pss: int | None


class Advice(Struct, frozen=True, kw_only=True):
    """Something that is not as it should be, and what to do about it."""

    severity: Severity
    subject: str
    message: str
    advice: str


class ServerStatus(Struct, frozen=True, kw_only=True):
    """All that a screen needs to show how a server is doing."""

    health: Health
    version: str
    pid: int
    started_at: float
    uptime: float
    routing: str
    running: int
    waiting: int
    tokens_per_second: float
    loads: int
    evictions: int
    models: tuple[ModelStatus, ...]
    workers: tuple[WorkerStatus, ...]
    speeds: tuple[ModelSpeed, ...]
    memory: MemoryStatus
    advice: tuple[Advice, ...]


class KeyStatus(Struct, frozen=True, kw_only=True):
    """A key, without its secret. `prefix`: how the secret begins. `owner`: whose data it works on. `grant`:
    what it may; a scope of None is no restriction. `state`: active, expired, revoked.
    """

    id: str
    name: str
    prefix: str
    state: str
    owner: str
    grant: Grant
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


class KeyList(Struct, frozen=True, kw_only=True):
    data: tuple[KeyStatus, ...]


class IssuedKey(Struct, frozen=True, kw_only=True):
    """A key with its secret, which is told this once and kept nowhere."""

    key: KeyStatus
    secret: str


class NewKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to be made. `owner` empty: this machine's own user for an admin, else the key itself."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    grant: Grant = field(default_factory=Grant)
    owner: Annotated[str, Meta(max_length=128)] = ""
    expires_at: PointInTime | None = None


class KeyChange(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is given is changed; `expires_at` null: never. `grant` replaces the whole grant."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    grant: Grant | UnsetType = UNSET
    expires_at: PointInTime | UnsetType | None = UNSET


class KeyRotation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`overlap`: seconds for which the old secret stays good."""

    overlap: Annotated[float, Meta(ge=0, le=2_592_000)] = 0.0


class Whoami(Struct, frozen=True, kw_only=True):
    """Who the server takes the client for. `credential` empty: this machine's own user, without a key."""

    id: str
    name: str
    credential: str
    grant: Grant
    expires_at: float | None = None


JobKind = Literal["import", "verify", "fetch"]
JobState = Literal["running", "done", "failed", "cancelled"]


class ModelJob(Struct, frozen=True, kw_only=True):
    """A long step with a model's files. `done` and `total`: bytes of the file under way; `eta`: seconds.

    `notices`: what had to be assumed, or what was found wrong. `is_served`: the model can be asked now.
    """

    id: str
    kind: JobKind
    model: str
    state: JobState
    began_at: float
    file: str = ""
    done: int = 0
    total: int = 0
    eta: float | None = None
    notices: tuple[str, ...] = ()
    is_served: bool = False
    error: str | None = None


class ModelJobList(Struct, frozen=True, kw_only=True):
    """Newest first."""

    data: tuple[ModelJob, ...]


class CatalogueModel(Struct, frozen=True, kw_only=True):
    """A model that Hearth knows where to fetch. `packs`: those it belongs to; `is_here`: it is installed."""

    name: str
    role: str
    bytes: int
    licence: str
    languages: tuple[str, ...]
    description: str
    packs: tuple[str, ...]
    is_here: bool


class ModelCatalogue(Struct, frozen=True, kw_only=True):
    """`refusal`: why nothing may be fetched here; empty where it may."""

    data: tuple[CatalogueModel, ...]
    refusal: str


class FoundModel(Struct, frozen=True, kw_only=True):
    """Something in a folder that looks like a model: a GGUF file, or a folder with an ONNX model."""

    path: str
    name: str
    format: Literal["gguf", "onnx"]
    bytes: int


class Folder(Struct, frozen=True, kw_only=True):
    """A folder of the server's machine: the folders in it and what models lie there. `parent` None: the root.

    `media`: where sticks and disks are mounted. `is_cut`: a list was too long to be told whole.
    """

    path: str
    parent: str | None
    folders: tuple[str, ...]
    models: tuple[FoundModel, ...]
    media: tuple[str, ...]
    is_cut: bool = False


# Over time


class Sample(Struct, frozen=True, kw_only=True):
    """The server over the `seconds` before `time`: answers and tokens of these, and how things stood at their
    end. `refused`: answered 429, 503 or 507; `failed`: any other 5xx. `sessions`: requests being answered.
    """

    time: float
    seconds: float
    answers: int = 0
    local: int = 0
    online: int = 0
    failed: int = 0
    refused: int = 0
    tokens_per_second: float = 0.0
    first_token_p50: float | None = None
    first_token_p99: float | None = None
    latency_p50: float | None = None
    latency_p99: float | None = None
    sessions: int = 0
    running: int = 0
    waiting: int = 0
    cells: int = 0
    cells_used: int = 0
    gateway_rss: int = 0
    workers_rss: int = 0


class History(Struct, frozen=True, kw_only=True):
    """Samples in their order, one every `step` seconds."""

    step: float
    data: tuple[Sample, ...]


class LogLine(Struct, frozen=True, kw_only=True):
    """A line of the server's own log. `number` counts from its start; ids are empty for no request."""

    number: int
    time: float
    level: str
    logger: str
    message: str
    request: str = ""
    trace: str = ""


class LogPage(Struct, frozen=True, kw_only=True):
    """Lines in their order. `after` of the next page is `last`; lines before `first` are forgotten."""

    data: tuple[LogLine, ...]
    last: int
    first: int


# Backups


class BackupOrder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`models`: the model files too."""

    models: bool = False


class BackupStatus(Struct, frozen=True, kw_only=True):
    """A backup in the home's `backups` directory; `created_at` None for a file that is none, or damaged."""

    name: str
    bytes: int
    created_at: float | None = None
    version: str = ""
    files: int = 0
    models: bool = False


class BackupList(Struct, frozen=True, kw_only=True):
    """`making`: the name of the one that is being made now, empty for none; `error`: of the last one."""

    data: tuple[BackupStatus, ...]
    making: str = ""
    error: str = ""


# The doctor


class Finding(Struct, frozen=True):
    """One line of the doctor's report. `advice` says what to do about a warning or a problem."""

    section: str
    label: str
    text: str
    level: Literal["ok", "warning", "problem"] = "ok"
    advice: str = ""


class DoctorReport(Struct, frozen=True, kw_only=True):
    """What the doctor finds on the server's machine, section by section."""

    data: tuple[Finding, ...]
