"""The generator's preparing thread: requests become tokens here, before the engine sees them.

Owns the requests that are on their way to the engine, and the memory of who left before it got to them. How a
prompt becomes tokens is `llm.prepare`'s knowledge.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Mapping

from appliance import errors
from appliance.llm.engine import Engine
from appliance.llm.prepare import Preparer
from appliance.llm.request import Admit
from appliance.records import Cancel, Detokenize, Failed, Generate, Text, Tokenize, Tokens
from appliance.workers.frames import WorkerChannel

log = logging.getLogger("hearth.generator")

RETRY_AFTER = 1.0

Preparable = Generate | Tokenize | Detokenize


class Preparation:
    """The thread that turns requests into tokens, and the memory of who left before it got to them."""

    def __init__(
        self,
        preparer: Preparer,
        engine: Engine,
        channel: WorkerChannel,
        limit: int,
        refused_adapters: Mapping[str, str] | None = None,
    ) -> None:
        self._limit = limit
        self._refused_adapters = refused_adapters or {}  # and why
        self._preparer, self._engine, self._channel = preparer, engine, channel
        self._inbox: queue.SimpleQueue[tuple[Preparable, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._cancelled: dict[int, bool] = {}  # requests not yet handed to the engine → cancelled?
        self._thread = threading.Thread(target=self._run, name="prepare", daemon=True)
        self._thread.start()

    def submit(self, command: Preparable) -> None:
        """Take the request in, or answer at once that there are too many."""
        with self._lock:
            has_room = len(self._cancelled) < self._limit
            if has_room:
                self._cancelled[command.id] = False
        if has_room:
            self._inbox.put((command, time.monotonic()))
            return
        error = errors.Overloaded(
            f"the queue is full: {self._limit} requests wait to be prepared", retry_after=RETRY_AFTER
        )
        self._channel.send(Failed(id=command.id, error=errors.pack(error)))

    def cancel(self, command: Cancel) -> None:
        with self._lock:
            if command.id in self._cancelled:
                self._cancelled[command.id] = True
            else:
                self._engine.inbox.put(command)

    def finish(self) -> None:
        """Returns when everything submitted so far has been handed on."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            while (item := self._inbox.get()) is not None:
                command, arrived = item
                if (error := self._attempt(command, arrived)) is not None:
                    self._forget(command.id)
                    self._channel.send(Failed(id=command.id, error=errors.pack(error)))

    def _attempt(self, command: Preparable, arrived: float) -> errors.HearthError | None:
        """Why the request cannot be prepared, if it cannot. A bug that one meets must not end all others."""
        try:
            self._prepare(command, arrived)
        except errors.HearthError as error:
            return error
        except BrokenPipeError:
            raise
        except Exception:
            log.exception("the request %d cannot be prepared", command.id)
            return errors.InternalError("the request met a bug of the server, whose log has the details")
        return None

    def _prepare(self, command: Preparable, arrived: float) -> None:
        if self._cancelled.get(command.id):
            raise errors.Cancelled("the request was cancelled")
        match command:
            case Generate():
                if command.adapter in self._refused_adapters:
                    reason = self._refused_adapters[command.adapter]
                    raise errors.Unavailable(f"the adapter {command.adapter} cannot be used: {reason}")
                self._hand_over(self._preparer.admit(command, arrived=arrived))
            case Tokenize(id=id, prompt=prompt):
                self._forget(id)
                self._channel.send(Tokens(id=id, tokens=tuple(self._preparer.tokenize(prompt))))
            case Detokenize(id=id, tokens=tokens):
                self._forget(id)
                self._channel.send(Text(id=id, text=self._preparer.detokenize(tokens)))

    def _hand_over(self, admit: Admit) -> None:
        with self._lock:
            if self._cancelled.pop(admit.id):
                self._channel.send(
                    Failed(id=admit.id, error=errors.pack(errors.Cancelled("the request was cancelled")))
                )
            else:
                self._engine.inbox.put(admit)

    def _forget(self, id: int) -> None:
        with self._lock:
            self._cancelled.pop(id, None)
