"""How a model's state is said and coloured."""

from __future__ import annotations

from textual.content import Content

from appliance.admin import ModelStatus
from tui import format
from tui.language import say
from tui.widgets.table import Cell

STYLES = {
    "ready": "$text-success",
    "failed": "$text-error",
    "down": "$text-error",
    "unloaded": "$foreground-muted",
}


def state_text(model: ModelStatus) -> Cell:
    text = say(f"state.{model.state}", share=format.percent(model.progress))
    if model.is_pinned:
        text += " ⚓"
    return Content.styled(text, STYLES.get(model.state, "$text-warning"))
