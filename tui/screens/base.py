"""What every screen has: the bars, the feeds it takes, calls with a visible wait, errors with a next step.

A screen sets NAME and FEEDS, composes `body`, handles `Fed`, and makes its calls in methods marked `flow`:

    class Things(HearthScreen):
        NAME = "things"
        FEEDS = ("things",)
        BINDINGS = [Binding("d", "drop", "things.drop")]      # described by text keys

        def body(self) -> ComposeResult: ...

        def fed(self, feed: str, value: Any) -> None: ...

        @flow
        async def action_drop(self) -> None:
            if await self.confirm(say("things.drop_question"), say("things.drop_lost")):
                await self.call(lambda client: client.drop("x"), say("things.dropping"))
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import Worker

from appliance.admin import ServerStatus
from appliance.errors import HearthError
from tui import language
from tui.host import Host
from tui.language import say
from tui.messages import Fed, Found, Lost, Unfed
from tui.remedies import advice
from tui.waits import Wait
from tui.widgets.bars import PATIENCE, Navigation, Problem, TopBar, Waiting

if TYPE_CHECKING:
    from appliance.client.knowledge import KnowledgeClient

Value = TypeVar("Value")
Given = ParamSpec("Given")
This = TypeVar("This", bound="HearthScreen")

TICK = 0.1
LOOK_SECONDS = 0.2
BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # for screens that stand side by side where there is room


def flow(
    method: Callable[Concatenate[This, Given], Awaitable[None]],
) -> Callable[Concatenate[This, Given], Worker[None]]:
    """Runs the method as a worker; a HearthError that leaves it is shown, a cancellation ends it quietly.

    So does the end of the screen, whose widgets go before it: what the method had for them is for nobody.
    """

    @functools.wraps(method)
    def begin(self: This, *args: Given.args, **kwargs: Given.kwargs) -> Worker[None]:
        async def run() -> None:
            try:
                await method(self, *args, **kwargs)
            except HearthError as error:
                self.show_error(error)
            except NoMatches:
                if not self._is_bare:
                    raise

        return self.run_worker(run, name=method.__name__, group="flows")

    return cast("Callable[Concatenate[This, Given], Worker[None]]", begin)


class HearthScreen(Screen[None]):
    NAME: ClassVar[str] = ""
    FEEDS: ClassVar[tuple[str, ...]] = ()

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "put_away", "frame.put_away", show=False),
        Binding("ctrl+r", "ask_again", "frame.ask_again", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._waits: list[Wait] = []
        self._language = ""
        self._ticking = self.set_interval(TICK, self._show_waits, pause=True)

    @property
    def hearth(self) -> Host:
        return cast(Host, self.app)

    def compose(self) -> ComposeResult:
        self._language = language.current()
        yield TopBar()
        yield Navigation(self.hearth.places, self.NAME)
        yield from self.body()
        yield Problem(id="problem")
        yield Waiting(id="waiting")
        yield Footer(show_command_palette=True)

    def body(self) -> ComposeResult:
        """The screen's own widgets."""
        yield from ()

    def composed(self) -> None:
        """The body's widgets are there; after each composition, before they are told anything."""

    def on_mount(self) -> None:
        self.composed()

    @property
    def _is_bare(self) -> bool:
        """Whether its widgets are on their way out: the screen ends, or is composed anew."""
        last = self.query(Footer)
        if not (self.is_parent_active and last and last.first().is_attached):
            return True
        # Widgets inside others go before those, in no order that could be told from the last of them.
        return any(node._pruning for node in self.walk_children(with_self=True))

    # Told by the feeds

    def feeds(self) -> tuple[str, ...]:
        """What it is to be told; after a change of mind, `take_feeds`."""
        return self.FEEDS

    def take_feeds(self) -> None:
        self.hearth.feeds.leave(self)
        self._take()

    def fed(self, feed: str, value: Any) -> None:
        """A feed of FEEDS has this value now. Called again with all last values after a new composition."""

    def on_fed(self, message: Fed) -> None:
        if message.feed == "status":
            self._show_status(message.value)
        if message.feed in self.feeds():
            self.fed(message.feed, message.value)

    def on_unfed(self, message: Unfed) -> None:
        self.hearth.refused(message.error)
        self.show_error(message.error)

    def on_lost(self, message: Lost) -> None:
        bar = self.query_one(TopBar)
        bar.url, bar.lost = self.hearth.backend.url, message.error.message
        self.add_class("-lost")
        self.query_one(Problem).show(message.error.message, say("frame.lost_advice"))

    def on_found(self, message: Found) -> None:
        bar = self.query_one(TopBar)
        if bar.lost:
            self.query_one(Problem).hide()
            self.notify(say("frame.found_again"))
        bar.url, bar.lost = self.hearth.backend.url, ""
        self.remove_class("-lost")

    def _show_status(self, status: ServerStatus) -> None:
        bar = self.query_one(TopBar)
        bar.url, bar.status, bar.lost = self.hearth.backend.url, status, ""

    def on_screen_resume(self) -> None:
        if self._language and self._language != language.current():
            self.refresh(recompose=True)
        self.call_after_refresh(self._take)

    def _take(self) -> None:
        self.hearth.feeds.take(self, "status", *self.feeds())

    def on_screen_suspend(self) -> None:
        self.hearth.feeds.leave(self)

    async def recompose(self) -> None:
        await super().recompose()
        self.composed()
        self.refresh_bindings()
        self.hearth.feeds.leave(self)
        self._take()

    # Calls

    async def call(self, use: Callable[[KnowledgeClient], Value], what: str) -> Value:
        """What `use` returns, with a visible wait that Escape ends. For flows. Raises HearthError."""
        with self.waiting(what):
            return await self.hearth.backend.run(use)

    async def stream(
        self, use: Callable[[KnowledgeClient], Iterable[Value]], what: str
    ) -> AsyncGenerator[list[Value]]:
        """The pieces as they come, with a visible wait that Escape ends. For flows. Raises HearthError."""
        with self.waiting(what):
            async with contextlib.aclosing(self.hearth.backend.stream(use)) as pieces:
                async for more in pieces:
                    yield more

    async def follow(
        self,
        look: Callable[[KnowledgeClient], Value],
        what: str,
        *,
        is_over: Callable[[Value], bool],
        share: Callable[[Value], float | None],
        cancel: Callable[[KnowledgeClient], object],
    ) -> Value:
        """Looks again and again at what the server does until it is over; Escape has `cancel` end it."""
        with self.waiting(what) as wait:
            try:
                while not is_over(seen := await self.hearth.backend.run(look)):
                    wait.share = share(seen)
                    await asyncio.sleep(LOOK_SECONDS)
            except asyncio.CancelledError:
                self.run_worker(self._cancel_there(cancel), group="flows")
                raise
        return seen

    async def _cancel_there(self, cancel: Callable[[KnowledgeClient], object]) -> None:
        try:
            await self.hearth.backend.run(cancel)
        except HearthError as error:
            self.show_error(error)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[Wait]:
        """Shows that the flow waits for `what`; the wait it gives takes a share, where one is known."""
        task = asyncio.current_task()
        assert task is not None
        wait = Wait(what, task)
        self._waits.append(wait)
        self._ticking.resume()
        try:
            yield wait
        finally:
            self._waits.remove(wait)
            self._show_waits()

    def _show_waits(self) -> None:
        if not self.is_attached or not self.query(Waiting):
            return
        line = self.query_one(Waiting)
        shown = next((wait for wait in self._waits if wait.elapsed >= PATIENCE), None)
        if shown is None:
            line.hide()
        else:
            line.show(shown.what, shown.elapsed, shown.share)
        if not self._waits:
            self._ticking.pause()

    # Telling and asking the operator

    def show_error(self, error: HearthError) -> None:
        """What went wrong and the next step, until it is put away."""
        self.show_problem(error.message, advice(error))

    def show_problem(self, message: str, advice: str) -> None:
        """The same, for what is no error of the client's."""
        self.query_one(Problem).show(message, advice)

    async def confirm(self, question: str, loss: str, do: str = "") -> bool:
        """Whether the operator wants it; `loss` names what is then gone. For flows."""
        from tui.dialogs.confirm import Confirm

        answer = await self.app.push_screen_wait(Confirm(question, loss, do))
        return answer is True

    @property
    def is_busy(self) -> bool:
        """Whether something is awaited, or was told that is yet to be put away."""
        return bool(self._waits) or self.query_one(Problem).display

    def action_put_away(self) -> None:
        """Ends what is awaited; else puts away what went wrong; else leaves the field that has the keys."""
        problem = self.query_one(Problem)
        if self._waits:
            self._waits[-1].cancel()
            self.notify(say("frame.cancelled"))
        elif problem.display:
            problem.hide()
        else:
            self.set_focus(None)

    def action_ask_again(self) -> None:
        self.hearth.feeds.refresh()

    # Keys say what they do in the language in use

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        return {
            key: active._replace(binding=_said(active.binding))
            for key, active in super().active_bindings.items()
        }

    def own_bindings(self) -> Iterator[ActiveBinding]:
        """What the screen's own keys do, said in the language in use."""
        for active in super().active_bindings.values():
            if active.node is self and language.has(active.binding.description):
                yield active._replace(binding=_said(active.binding))


def _said(binding: Binding) -> Binding:
    """With the sentence in place of its key."""
    if not language.has(binding.description):
        return binding
    return dataclasses.replace(binding, description=say(binding.description))
