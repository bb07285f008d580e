"""What the server is asked again and again, and who wants to be told. The only place that polls.

A feed is asked while somebody takes it, and no oftener than its interval. Takers get `Fed` with each new
value, the last one at once; `Lost` and `Found` when the server leaves and comes back. To add a feed, add a
row to FEEDS. A feed may have a subject: `documents:vs_1` asks for those of `vs_1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

from appliance.errors import HearthError, Unavailable
from tui.backend import Backend
from tui.messages import Fed, Found, Lost, Unfed

if TYPE_CHECKING:
    from appliance.client.knowledge import KnowledgeClient

CALM_SECONDS = 15.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 3.0)  # after the first loss, the second …; the last one stays


class Feed(NamedTuple):
    """`seconds` between two answers and questions; `ask` runs on a thread, with the subject if it has one.
    `is_calm`: nothing is going on there; each look at data that is somebody's leaves a line in the audit log.
    """

    seconds: float
    ask: Callable[..., Any]
    is_calm: Callable[[Any], bool] = lambda value: False

    def pause(self, value: Any) -> float:
        """Seconds until it is asked again, after this answer."""
        return CALM_SECONDS if self.is_calm(value) else self.seconds


FEEDS = {
    "status": Feed(1.0, lambda client: client.status()),
    "models": Feed(1.0, lambda client: client.model_statuses()),
    "requests": Feed(1.0, lambda client: client.active_requests()),
    "routing": Feed(3.0, lambda client: client.get("/admin/v1/routing")),
    "settings": Feed(5.0, lambda client: client.settings()),
    "config": Feed(2.0, lambda client: client.config()),
    "backups": Feed(5.0, lambda client: client.backups()),
    "keys": Feed(5.0, lambda client: client.keys()),
    "whoami": Feed(5.0, lambda client: client.whoami()),
    "bases": Feed(1.0, lambda client: client.bases(), lambda bases: not _any_in_progress(bases)),
    "documents": Feed(
        1.0,
        lambda client, base: client.latest_documents(base),
        lambda documents: not _any_in_progress(documents),
    ),
}


class Feeds:
    """Owns the asking, on workers of `app`, which ends them and is told of what they did not expect."""

    def __init__(self, app: App[None], backend: Backend) -> None:
        self._app = app
        self._backend = backend
        self._takers: dict[str, set[MessagePump]] = {}
        self._asking: set[str] = set()
        self._wake: dict[str, asyncio.Event] = {}
        self._last: dict[str, Any] = {}
        self._failures = 0
        self._may_ask = asyncio.Event()
        self._may_ask.set()
        self.lost: Lost | None = None
        self.is_found = False

    def take(self, taker: MessagePump, *names: str) -> None:
        """Tell `taker` of these feeds; a value that is known already at once."""
        for name in names:
            self._takers.setdefault(name, set()).add(taker)
            if name in self._last:
                taker.post_message(Fed(name, self._last[name]))
            if name not in self._asking:
                self._wake[name] = asyncio.Event()
                self._asking.add(name)
                self._app.run_worker(self._keep_asking(name), name=name, group="feeds")
        if self.lost is not None:
            taker.post_message(Lost(self.lost.error, self.lost.retry_in))

    def leave(self, taker: MessagePump) -> None:
        for takers in self._takers.values():
            takers.discard(taker)

    def refresh(self, *names: str) -> None:
        """Ask now: something was done that changes them. Without names: all that somebody takes."""
        for name in names or tuple(self._wake):
            if name in self._wake:
                self._wake[name].set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody is asked meanwhile: what is done decides with which key the next question goes."""
        self._may_ask.clear()
        try:
            yield
        finally:
            self._may_ask.set()

    def forget(self) -> None:
        """What is known is of another server."""
        self._last.clear()
        self.refresh()

    async def _keep_asking(self, name: str) -> None:
        while self._takers[name]:
            await self._may_ask.wait()
            pause = await self._ask(name)
            self._wake[name].clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake[name].wait()
        self._asking.discard(name)
        del self._wake[name]
        self._last.pop(name, None)

    async def _ask(self, name: str) -> float:
        """Ask once and tell; the seconds until the next time."""
        kind, has_subject, subject = name.partition(":")
        feed = FEEDS[kind]
        ask = partial(_ask_about, feed.ask, subject) if has_subject else feed.ask
        try:
            value = await self._backend.run(ask)
        except Unavailable as error:
            return self._lose(error)
        except HearthError as error:
            self._find()
            self._tell(name, partial(Unfed, name, error))
            return max(feed.seconds, RETRY_SECONDS[-1])
        self._find()
        if name not in self._last or self._last[name] != value:
            self._last[name] = value
            self._tell(name, partial(Fed, name, value))
        return feed.pause(value)

    def _lose(self, error: Unavailable) -> float:
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self.lost = Lost(error, pause)
        self.is_found = False
        self._tell_all(partial(Lost, error, pause))
        return pause

    def _find(self) -> None:
        if not self.is_found:
            self.is_found, self.lost, self._failures = True, None, 0
            self._tell_all(Found)

    def _tell(self, name: str, message: Callable[[], Message]) -> None:
        for taker in self._takers[name]:
            taker.post_message(message())

    def _tell_all(self, message: Callable[[], Message]) -> None:
        for taker in set().union(*self._takers.values()):
            taker.post_message(message())


def _ask_about(ask: Callable[..., Any], subject: str, client: KnowledgeClient) -> Any:
    return ask(client, subject)


def _any_in_progress(found: Iterable[Mapping[str, Any]]) -> bool:
    return any(each["status"] == "in_progress" for each in found)
