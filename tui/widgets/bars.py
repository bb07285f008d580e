"""The lines that every screen has: who answers, where one can go, what is awaited, what failed."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult, RenderResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from appliance.admin import ServerStatus
from tui.format import seconds
from tui.language import say

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PATIENCE = 0.3  # a wait shorter than this is not worth a line


class TopBar(Widget):
    """Who answers, how it is, and what waits. `lost`: why it does not answer."""

    status: reactive[ServerStatus | None] = reactive(None)
    lost: reactive[str] = reactive("")
    url: reactive[str] = reactive("")

    def render(self) -> RenderResult:
        mark, state, style = self._state()
        left = Content.assemble(
            (" Hearth ", "bold $primary"),
            (f"{mark} {state}", style),
            ("  ", ""),
            (self.url, "$foreground-muted"),
        )
        right = Content(self._figures() + " ")
        room = self.size.width - left.cell_length - right.cell_length
        if room < 1:
            return left
        return left + Content(" " * room) + right.stylize("$foreground-muted")

    def _state(self) -> tuple[str, str, str]:
        if self.lost:
            return "✗", say("frame.lost"), "bold $text-error"
        if self.status is None:
            return "○", say("frame.connecting"), "$foreground-muted"
        if self.status.health == "ready":
            return "●", say("frame.ready"), "$text-success"
        return "◌", say(f"frame.{self.status.health}"), "$text-warning"

    def _figures(self) -> str:
        if self.status is None:
            return ""
        return say(
            "frame.figures",
            routing=say(f"routing_mode.{self.status.routing}"),
            uptime=seconds(self.status.uptime),
            version=self.status.version,
        )


class Navigation(Widget):
    """The places, the current one marked; a click goes there."""

    class Chosen(Message):
        def __init__(self, place: str) -> None:
            super().__init__()
            self.place = place

    def __init__(self, places: tuple[str, ...], current: str) -> None:
        super().__init__(id="navigation")
        self._places = places
        self._current = current
        self._ends: list[tuple[int, str]] = []  # the cell where each place's name ends

    def render(self) -> RenderResult:
        names = [say(f"places.{place}") for place in self._places]
        is_wide = sum(cell_len(name) + 4 for name in names) < self.size.width
        line, self._ends = Content(" "), []
        for number, (place, name) in enumerate(zip(self._places, names, strict=True), start=1):
            label = f"{number} {name}" if is_wide else name
            is_current = place == self._current
            line += Content.styled(label, "bold underline $primary" if is_current else "$foreground-muted")
            self._ends.append((line.cell_length, place))
            line += Content("  " if is_wide else " ")
        return line

    def on_click(self, event: Click) -> None:
        for end, place in self._ends:
            if event.x <= end:
                self.post_message(self.Chosen(place))
                return


class Waiting(Horizontal):
    """What is awaited, how long already, how far it is, and how to end it. Shown after PATIENCE."""

    def compose(self) -> ComposeResult:
        yield Static(id="waiting-text")

    def show(self, what: str, elapsed: float, share: float | None) -> None:
        frame = SPINNER[int(elapsed * 10) % len(SPINNER)]
        progress = "" if share is None else f"  {_bar(share, 20)} {share:.0%}"
        text = f" {frame} {what}{progress}  {elapsed:.0f} s"
        line = Content.assemble((text, "$primary"), (f"   {say('frame.cancel_hint')}", "$foreground-muted"))
        self.query_one("#waiting-text", Static).update(line)
        self.display = True

    def hide(self) -> None:
        self.display = False


class Problem(Static):
    """What went wrong and what to do about it, until it is put away."""

    def show(self, message: str, advice: str) -> None:
        hint = Content.assemble((f"  {say('frame.dismiss_hint')}", "$foreground-muted"))
        first = Content.assemble(("✗ ", "bold $text-error"), (message, ""))
        self.update(Content("\n").join([first, Content.assemble(("→ ", "bold"), advice) + hint]))
        self.display = True

    def hide(self) -> None:
        self.display = False


def _bar(share: float, cells: int) -> str:
    filled = round(max(0.0, min(1.0, share)) * cells)
    return "█" * filled + "░" * (cells - filled)
