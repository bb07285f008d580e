"""What a server answers to the screens knowledge, routing, access, audit, settings and doctor.

Written as the records that the API sends, so that an answer here cannot have another form than a real one's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from appliance import admin, audit, configuration
from appliance.client.knowledge import KnowledgeClient
from appliance.principal import Grant, Rates
from tests.tui.recorded import NOW, URL, Recorded
from tui.backend import Door

DAY = 86_400
MOON = (
    "# Apollo 11\n\nApollo 11 was the first mission to land people on the Moon. Neil Armstrong was the first "
    "person who walked there, on 20 July 1969.\n\n## Samples\n\nThe crew brought 21.5 kilograms of rock. "
    "The samples are kept in nitrogen so that air does not change them.\n"
)


def door(_key: str | None) -> Door:
    transport = Recorded()
    transport.answers |= answers(NOW) | {"/admin/v1/routing": online(transport.answers["/admin/v1/routing"])}
    return partial(KnowledgeClient, URL, None, transport=transport)


def new_door(_key: str | None) -> Door:
    """A server that nobody has set up yet."""
    transport = Recorded()
    told = {
        "/admin/v1/whoami": admin.Whoami(id="local", name="local", credential="", grant=Grant(role="admin")),
        "/admin/v1/keys": admin.KeyList(data=()),
        "/admin/v1/config/settings": configuration.SettingList(
            can_change=True, data=(_free("host", "127.0.0.1"), _free("port", 8080))
        ),
        "/admin/v1/config": configuration.ConfigStatus(
            file="/srv/hearth/hearth.toml", version=1, settings={}, pending=(), error=None
        ),
    }
    transport.answers |= {path: msgspec.to_builtins(each) for path, each in told.items()}
    return partial(KnowledgeClient, URL, None, transport=transport)


def _free(key: str, value: Any) -> configuration.SettingStatus:
    return configuration.SettingStatus(
        key=key, kind="text", description="", value=value, default=value, source="default", is_fixed=False,
        needs_restart=True,
    )  # fmt: skip


def answers(now: float) -> dict[str, Any]:
    told = {
        "/admin/v1/whoami": admin.Whoami(
            id="local", name="boss", credential="key_mypsda3vps", grant=Grant(role="admin")
        ),
        "/admin/v1/keys": _keys(now),
        "/admin/v1/config/settings": _settings(),
        "/admin/v1/config": configuration.ConfigStatus(
            file="/srv/hearth/hearth.toml",
            version=7,
            settings={},
            pending=(_change("generator.slots", 16, 8),),
            error=None,
        ),
        "/admin/v1/config/check": configuration.CheckedConfig(
            changes=(_change("generator.temperature", 0.7, 0.5, restart=False),), toml=""
        ),
        "/admin/v1/doctor": _doctor(),
        "/admin/v1/backups": admin.BackupList(
            data=(
                admin.BackupStatus(
                    name="hearth-20260920.zip",
                    bytes=48 << 20,
                    created_at=now - DAY,
                    version="0.1.0",
                    files=31,
                ),
            )
        ),
        **_audit(),
    }
    return {path: msgspec.to_builtins(each) for path, each in told.items()} | _knowledge(now) | _routing()


def _keys(now: float) -> admin.KeyList:
    boss = admin.KeyStatus(
        id="key_mypsda3vps",
        name="boss",
        prefix="hearth_mypsda3vps_",
        state="active",
        owner="local",
        grant=Grant(role="admin", tiers=("default", "flex", "priority")),
        created_at=now - 40 * DAY,
        last_used_at=now - 2,
    )
    app = admin.KeyStatus(
        id="key_cp5pw3ubp8",
        name="billing app",
        prefix="hearth_cp5pw3ubp8_",
        state="active",
        owner="key_cp5pw3ubp8",
        grant=Grant(models=("smol*",), rates=Rates(requests_per_minute=60, concurrent=4)),
        created_at=now - 12 * DAY,
        expires_at=now + 27 * DAY,
        last_used_at=now - 3 * 3600,
    )
    old = msgspec.structs.replace(
        app, id="key_2", name="old app", prefix="hearth_2aaaaaaaaa_", state="revoked", revoked_at=now - DAY
    )
    return admin.KeyList(data=(boss, app, old))


def _settings() -> configuration.SettingList:
    def setting(
        key: str, kind: configuration.SettingKind, value: Any, default: Any, words: str, **more: Any
    ) -> Any:
        known = {"source": "default", "is_fixed": False, "needs_restart": True} | more
        return configuration.SettingStatus(
            key=key, kind=kind, value=value, default=default, description=words, **known
        )

    return configuration.SettingList(
        can_change=True,
        data=(
            setting(
                "port", "integer", 8443, 8080, "port to listen on", source="command line", is_fixed=True,
                least=0, most=65535,
            ),
            setting("pack", "text", "starter", "starter", "the set of models to serve: tiny or starter"),
            setting(
                "log_level", "choice", "info", "info", "least important message to log", needs_restart=False,
                choices=("debug", "info", "warning", "error"),
            ),
            setting(
                "generator.temperature", "number", 0.7, 0.7, "temperature of requests that name none",
                needs_restart=False, least=0, most=2,
            ),
            setting(
                "generator.slots", "integer", 8, 16, "answers generated at the same time, per model",
                source="file", least=1, most=128,
            ),
            setting("generator.draft", "switch", True, True, "guess ahead where an answer repeats itself"),
            setting("routing.platforms", "table", 1, 0, "services", source="file", needs_restart=False),
        ),
    )  # fmt: skip


def _change(key: str, before: Any, after: Any, *, restart: bool = True) -> configuration.SettingChange:
    return configuration.SettingChange(key=key, before=before, after=after, needs_restart=restart)


def _doctor() -> admin.DoctorReport:
    return admin.DoctorReport(
        data=(
            admin.Finding("Hearth", "version", "0.1.0, one file"),
            admin.Finding("Machine", "processor", "Intel N100, 4 cores, 4 threads"),
            admin.Finding("Machine", "memory", "0.9 GiB free of 16.0 GiB", "warning", "close other programs"),
            admin.Finding("Engines", "onnxruntime", "1.31.1"),
            admin.Finding("Disk", "space", "212.4 GiB free at /srv/hearth"),
            admin.Finding(
                "Models",
                "qwen2.5-7b-instruct",
                "chat, 4,683 MB, needs about 6.1 GiB; 4.2 GiB are there for chat models",
                "problem",
                "lower generator.cells, or use a smaller model",
            ),
            admin.Finding("Models", "all-minilm-l6-v2", "embed, 91 MB"),
        )
    )


def _audit() -> dict[str, Any]:
    def entry(seq: int, endpoint: str, status: int, **more: Any) -> audit.AuditEntry:
        known = {
            "time": f"2026-09-21T14:{seq % 60:02}:05.120000+00:00", "event": "request",
            "request": f"req-{seq}",
            "trace": f"{seq:032x}", "user": "9e545bd676e8e411ba30", "model": "", "route": "",
            "sensitive": False, "tokens": audit.AuditTokens(), "seconds": 0.004,
        }  # fmt: skip
        return audit.AuditEntry(seq=seq, endpoint=endpoint, status=status, **(known | more))

    chat = {"model": "smollm2-135m-instruct", "route": "local", "seconds": 1.42}
    tokens = audit.AuditTokens(prompt=812, completion=164)
    page = audit.AuditPage(
        data=(
            entry(101, "", 0, event="start", request="", user=""),
            entry(102, "POST /v1/chat/completions", 200, **chat, tokens=tokens),
            entry(
                103, "POST /v1/chat/completions", 200, **chat, tokens=tokens, sensitive=True,
                kinds=("email", "iban"), privacy="kept-local",
            ),
            entry(104, "POST /admin/v1/keys", 200, user="5510f7a1cc"),
            entry(105, "POST /v1/chat/completions", 429, model="smollm2-135m-instruct"),
            entry(106, "POST /v1/vector_stores/{vector_store_id}/search", 503, seconds=0.2),
        ),
        last=106,
        newest=106,
    )  # fmt: skip
    later = audit.AuditPage(data=(), last=106, newest=106)
    return {
        "/admin/v1/audit?limit=300&after=-1&wait=0.0": page,
        "/admin/v1/audit?after=106&wait=20.0": later,
        "/admin/v1/audit/verify": audit.AuditReport(
            is_sound=True, lines=106, first=1, last=106, checkpoints=0, findings=()
        ),
    }


def _knowledge(now: float) -> dict[str, Any]:
    def base(id: str, name: str, status: str, **counts: int) -> dict[str, Any]:
        known = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0} | counts
        return {
            "id": id, "name": name, "description": "", "status": status, "usage_bytes": 1_412_000,
            "file_counts": known | {"total": sum(known.values())}, "embedder": "multilingual-e5-small",
            "metadata": {}, "created_at": int(now),
        }  # fmt: skip

    def document(name: str, status: str = "completed", size: int = 0, error: str = "") -> dict[str, Any]:
        return {
            "id": f"file-{name}", "filename": name, "status": status, "usage_bytes": size, "attributes": {},
            "last_error": {"code": "unreadable", "message": error} if error else None,
        }  # fmt: skip

    failed = document(
        "scan.pdf", "failed", error="it has pictures of text only, and no text that could be read"
    )
    reading = document("handbook.docx", "in_progress")
    read = [document("apollo.md", size=402), document("packages.md", size=18_220)]

    def page(data: list[Any]) -> dict[str, Any]:
        return {"object": "list", "data": data, "has_more": False, "first_id": None, "last_id": None}

    begins = MOON.index("Neil Armstrong")
    hits = [
        {
            "file_id": "file-apollo.md", "filename": "apollo.md", "score": 0.94, "attributes": {},
            "content": [{"type": "text", "text": MOON}],
            "place": {"begins": 0, "ends": len(MOON), "page": 0, "heading": "Apollo 11"},
        },
        {
            "file_id": "file-packages.md", "filename": "packages.md", "score": 0.31, "attributes": {},
            "content": [{"type": "text", "text": "A package whose first file walks away is broken."}],
            "place": {"begins": begins, "ends": begins + 20, "page": 3, "heading": "Repair"},
        },
    ]  # fmt: skip
    inside = "/v1/vector_stores/vs_1/files"
    return {
        "/v1/vector_stores?limit=100&order=asc": page(
            [
                base("vs_1", "manuals", "in_progress", completed=2, failed=1, in_progress=1),
                base("vs_2", "政策文件", "completed", completed=128),
            ]
        ),
        f"{inside}?limit=100&filter=failed": page([failed]),
        f"{inside}?limit=100&filter=in_progress": page([reading]),
        f"{inside}?limit=100": page([reading, *read, failed]),
        f"{inside}/file-apollo.md/content": {"data": [{"type": "text", "text": MOON}]},
        "/v1/vector_stores/vs_1/search": {
            "data": hits,
            "relevance": 0.9,
            "timings": {
                "base": 0.0004,
                "embedding": 0.0121,
                "words": 0.0012,
                "vectors": 0.0021,
                "feedback": 0.0017,
            },
            "warnings": [],
        },
    }


def _routing() -> dict[str, Any]:
    def route(model: str, where: str, platform: str, reason: str) -> dict[str, Any]:
        return {"platform": platform, "model": model, "route": where, "reason": reason, "arm": ""}

    return {
        "/admin/v1/routing/explain": {
            "model": "auto", "task": "chat", "policy": "local-first", "policy_reason": "the default policy",
            "needs": [], "prompt_tokens_guess": 0,
            "candidates": [
                route("smollm2-135m-instruct", "local", "local", "local-first: local, quality 30"),
                route("gpt-5", "online", "cloud", "local-first: online, quality 80"),
            ],
            "rejected": [
                {
                    "platform": "other", "model": "big", "route": "online", "why": "failing",
                    "reason": "keeps failing; tried again in 103 s",
                }
            ],
        }
    }  # fmt: skip


def online(routing: dict[str, Any]) -> dict[str, Any]:
    """A recorded answer of routing, with an online model that has a bad day."""
    figures = {
        "answers": 214, "errors": {"rate_limited": 3, "timeout": 2}, "prompt_tokens": 88_120,
        "completion_tokens": 31_400, "cost": 0.4275, "first_token_p50": 0.41, "first_token_p99": 2.2,
        "total_p50": 3.1, "total_p99": 9.7,
    }  # fmt: skip
    cloud = {
        "id": "gpt-5", "platform": "cloud", "route": "online", "role": "chat", "quality": 80, "price_in": 2.0,
        "price_out": 8.0, "waiting": 0, "first_token_seconds": 0.41, "token_seconds": 0.01,
        "places": [
            {
                "instance": "https://api.example/v1", "running": 1, "breaker": "open", "down_for": 42.0,
                "figures": figures,
            }
        ],
    }  # fmt: skip
    arm = {key: figures[key] for key in figures} | {"answers": 96, "errors": {}}
    return routing | {
        "mode": "hybrid",
        "policy": "local-first",
        "is_sealed": False,
        "models": [*routing["models"], cloud],
        "arms": {"gpt-5": arm | {"cost": 0.4275}, "smollm2-135m-instruct": arm | {"cost": 0.0}},
    }
