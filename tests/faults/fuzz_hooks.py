"""What schemathesis cannot know: most bodies name a model that is there, and answers are short."""

from __future__ import annotations

from typing import Any

import schemathesis

from tests.serving import CHAT, EMBED, RERANK

MODELS = {"embed": EMBED, "rerank": RERANK, "score": RERANK}
SHORT = {"max_tokens": 4, "max_completion_tokens": 4, "max_output_tokens": 16}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Three bodies of four get a real model, so that what is behind the look-up is reached too."""
    if not isinstance(body, dict) or "model" not in body or hash(str(body)) % 4 == 0:
        return body
    path = context.operation.path if context.operation is not None else ""
    model = next((name for word, name in MODELS.items() if word in path), CHAT)
    limits = {name: least for name, least in SHORT.items() if isinstance(body.get(name), int)}
    return body | {"model": model} | limits
