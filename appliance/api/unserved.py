"""The paths of OpenAI's, Anthropic's and Ollama's surfaces that this server knows and does not serve, each
with its reason.

A client that asks for one is told so (501) instead of that the path does not exist. What is served is in
`routes`; this table is only asked when nothing there fits.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance.errors import NotServed

ASSISTANTS = "the Assistants API has given way to /v1/responses and /v1/conversations"
HOSTED = "it belongs to OpenAI's own platform, which this server has no part in"
PLATFORM = "it belongs to Anthropic's own platform, which this server has no part in"
MEDIA = "the local models read and write text only"

# The first segment behind /v1/ → why nothing below it is served.
UNSERVED = {
    "agents": HOSTED,
    "assistants": ASSISTANTS,
    "audio": MEDIA,
    "chatkit": HOSTED,
    "containers": "this server runs no code for its clients",
    "content_provenance_checks": HOSTED,
    "decisions": HOSTED,
    "deployment_runs": PLATFORM,
    "deployments": PLATFORM,
    "dreams": PLATFORM,
    "edits": "the Edits API has given way to /v1/chat/completions",
    "engines": "engines are called models: see /v1/models",
    "environments": PLATFORM,
    "evals": "evaluations are run by programs of your own against this endpoint",
    "fine-tunes": "local models are served as they are, not trained",
    "fine_tuning": "local models are served as they are, not trained",
    "graders": "evaluations are run by programs of your own against this endpoint",
    "images": MEDIA,
    "live": MEDIA,
    "memory_stores": PLATFORM,
    "moderations": "no moderation model is installed",
    "organization": HOSTED,
    "organizations": PLATFORM,
    "projects": HOSTED,
    "realtime": MEDIA,
    "safety": HOSTED,
    "sessions": PLATFORM,
    "skills": HOSTED,
    "threads": ASSISTANTS,
    "tunnels": PLATFORM,
    "user_profiles": PLATFORM,
    "vaults": HOSTED,
    "videos": MEDIA,
    "webhook_endpoints": "this server calls nobody: it has no webhooks",
    "webhook_event_types": "this server calls nobody: it has no webhooks",
}


STORE = "models are kept with `hearth models`, not by clients"
OLLAMA_UNSERVED = dict.fromkeys(("blobs", "copy", "create", "delete", "pull", "push"), STORE) | {
    "experimental": "it is no settled part of Ollama's surface",
    "me": "there are no accounts here",
    "signout": "there are no accounts here",
    "web_fetch": "this server asks no web",
    "web_search": "this server asks no web",
}


class Missing(NamedTuple):
    """What is not served below a segment that is. `method`: empty for all of them."""

    method: str
    path: str
    name: str
    reason: str


MISSING = (
    Missing("DELETE", "/v1/models/", "model_deletion", "models are removed with `hearth models remove`"),
    Missing("", "/v1/messages/batches", "message_batches", "batches are made at /v1/batches"),
)


def refusal(method: str, path: str) -> NotServed | None:
    """The error for what OpenAI, Anthropic or Ollama has and this server has not; None for anything else."""
    for each in MISSING:
        if path.startswith(each.path) and each.method in ("", method):
            return _not_served(f"{method} {path}", each.name, each.reason)
    for root, reasons in (("/v1/", UNSERVED), ("/api/", OLLAMA_UNSERVED)):
        segment = path.removeprefix(root).partition("/")[0]
        if path.startswith(root) and segment in reasons:
            return _not_served(root + segment, segment, reasons[segment])
    return None


def _not_served(what: str, name: str, reason: str) -> NotServed:
    return NotServed(f"{what} is not served here: {reason}", code=f"{name}_not_served")
