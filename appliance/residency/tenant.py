"""One chat model as the residency keeps it: what it needs, its worker if it has one, and who uses it.

A record with no rules of its own: `residency` alone changes it, on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from appliance.errors import HearthError
from appliance.launch import GeneratorOrder
from appliance.residency.keep_alive import FOREVER
from appliance.residency.plan import Resident
from appliance.workers.supervisor import State, Supervisor

TenantState = Literal["ready", "loading", "waiting", "down", "unloading", "unloaded", "failed"]


@dataclass
class Tenant:
    """`bytes` is the estimate, `needs` the same in words. Without `order` the model cannot be loaded at all;
    `error` says why.
    """

    name: str
    order: GeneratorOrder | None
    bytes: int
    needs: str
    pinned: bool = False
    at_start: bool = False
    error: HearthError | None = None  # why it could not be loaded
    failed_at: float = 0.0
    supervisor: Supervisor | None = None  # the model is in memory, on its way there, or on its way out
    leaving: asyncio.Task[None] | None = None  # the unloading under way
    reserved: bool = False  # room is being made for it
    retiring_for: Tenant | None = None  # takes no new requests, so that this one gets its turn
    users: int = 0  # requests that run on it
    waiters: int = 0  # requests that wait for it
    waits_since: float | None = None  # for room that only running requests can give back
    keep_alive: float = FOREVER
    used: float = field(default_factory=time.monotonic)
    used_at: float | None = None  # seconds since the epoch
    expiry: asyncio.TimerHandle | None = None
    expires_at: float | None = None  # seconds since the epoch

    @property
    def is_open(self) -> bool:
        """Whether a request may go to it now, be it ready or still loading."""
        return self.supervisor is not None and self.leaving is None and self.retiring_for is None

    @property
    def is_idle(self) -> bool:
        return not self.users and (not self.waiters or self.retiring_for is not None)

    @property
    def state(self) -> TenantState:
        if self.leaving is not None:
            return "unloading"
        if self.supervisor is not None:
            return self._worker_state(self.supervisor)
        if self.reserved or self.waiters:
            return "waiting"
        return "unloaded" if self.error is None else "failed"

    @staticmethod
    def _worker_state(supervisor: Supervisor) -> TenantState:
        if supervisor.state is State.READY:
            return "ready"
        is_loading = supervisor.state is State.STARTING and supervisor.last_error is None
        return "loading" if is_loading else "down"

    @property
    def trouble(self) -> HearthError | None:
        """Why it does not answer, where that is known."""
        if self.supervisor is not None and self.supervisor.state is not State.READY:
            return self.supervisor.last_error or self.error
        return self.error

    @property
    def progress(self) -> float:
        """0 to 1 of the load."""
        if self.supervisor is None:
            return 0.0
        return 1.0 if self.supervisor.facts else min(self.supervisor.loading.values(), default=0.0)

    def as_resident(self) -> Resident:
        return Resident(
            self.name,
            self.bytes,
            self.used,
            pinned=self.pinned,
            busy=not self.is_idle,
            leaving=self.leaving is not None,
        )
