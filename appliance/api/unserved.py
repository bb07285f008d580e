"""The paths of OpenAI's and Ollama's surfaces that this server knows and does not serve, each with its
reason.

A client that asks for one is told so (501) instead of that the path does not exist. What is served is in
`routes`; this table is only asked when nothing there fits.
"""

from __future__ import annotations

from appliance.errors import NotServed

ASSISTANTS = "the Assistants API has given way to /v1/responses and /v1/conversations"
HOSTED = "it belongs to OpenAI's own platform, which this server has no part in"
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
    "edits": "the Edits API has given way to /v1/chat/completions",
    "engines": "engines are called models: see /v1/models",
    "evals": "evaluations are run by programs of your own against this endpoint",
    "fine-tunes": "local models are served as they are, not trained",
    "fine_tuning": "local models are served as they are, not trained",
    "graders": "evaluations are run by programs of your own against this endpoint",
    "images": MEDIA,
    "live": MEDIA,
    "moderations": "no moderation model is installed",
    "organization": HOSTED,
    "projects": HOSTED,
    "realtime": MEDIA,
    "safety": HOSTED,
    "skills": HOSTED,
    "threads": ASSISTANTS,
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


def refusal(path: str) -> NotServed | None:
    """The error for a path that OpenAI or Ollama has and this server has not; None for any other path."""
    for root, reasons in (("/v1/", UNSERVED), ("/api/", OLLAMA_UNSERVED)):
        segment = path.removeprefix(root).partition("/")[0]
        if path.startswith(root) and segment in reasons:
            return NotServed(
                f"{root}{segment} is not served here: {reasons[segment]}", code=f"{segment}_not_served"
            )
    return None
