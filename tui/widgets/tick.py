"""A checkbox that says by its character whether it is set: colours alone do not, where there are none."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Tick(Checkbox):
    def render(self) -> Content:
        mark = "[x]" if self.value else "[ ]"
        label = self._label.pad(1, 1).stylize_before(self.get_visual_style("toggle--label"))
        return Content.assemble((mark, "bold"), label)
