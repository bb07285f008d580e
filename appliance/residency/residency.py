"""Which chat models are in memory: loads them when they are asked for, and lets go of those that are not.

The one owner of that state, on the event loop. What may leave for whom is `plan`'s arithmetic; a worker's
life is its supervisor's business. Promises: all models together stay within the budget by their estimates; a
model with running requests is never unloaded for another; who waits is answered within `patience` seconds,
and who can never be served at once, with the numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from appliance import errors, memory
from appliance.activity import Activity
from appliance.launch import GeneratorOrder
from appliance.residency import explain
from appliance.residency.keep_alive import FOREVER
from appliance.residency.plan import Fits, Refusal, Waits, plan
from appliance.residency.tenant import Tenant
from appliance.workers.handles import CANCELLED
from appliance.workers.supervisor import State, Supervisor

log = logging.getLogger("hearth.residency")

FAIR_WAIT = 1.0  # seconds after which a model waiting for room closes those in its way to new requests
FAILED_REST = 10.0  # seconds before a model that could not be loaded is tried again
UNLOAD_SECONDS = 10.0  # for an idle worker to end in order
FORCED_SECONDS = 1.0  # for one whose requests were ended
MIB = 1024 * 1024


class Residency:
    """`launch` makes a model's supervisor, not started yet; `available` tells the machine's free bytes."""

    def __init__(
        self,
        budget: int,
        tenants: Iterable[Tenant],
        launch: Callable[[GeneratorOrder], Supervisor],
        available: Callable[[], int],
        *,
        patience: float,
        keep_alive: float = FOREVER,
    ) -> None:
        self.budget = budget
        self.loads = 0
        self.evictions = 0  # models that left so that another fits
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._launch, self._available = launch, available
        self._patience, self._keep_alive = patience, keep_alive
        self._due = self._choose_due()
        self._visits: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopping = False

    def _choose_due(self) -> set[str]:
        """The models to load at the start: as many as fit, in their order. Raises SetupError if none does."""
        due: list[Tenant] = []
        wanted = [tenant for tenant in self._tenants.values() if tenant.at_start or tenant.pinned]
        for tenant in wanted:
            if tenant.order is None:
                raise errors.SetupError(tenant.error.message if tenant.error else tenant.needs)
            decision = plan(self.budget, [each.as_resident() for each in due], tenant.bytes)
            if isinstance(decision, Fits) and not decision.evictions:
                due.append(tenant)
            else:
                log.warning(
                    "%s is not loaded at the start: it needs about %s, and the models before it leave too "
                    "little of %d MiB (generator.memory); it is loaded when it is asked for",
                    tenant.name, tenant.needs, self.budget // MIB,
                )  # fmt: skip
        if wanted and not due:
            refusal = plan(self.budget, (), wanted[0].bytes)
            assert isinstance(refusal, Refusal)
            raise errors.SetupError(explain.refused(wanted[0], refusal, self.budget))
        return {tenant.name for tenant in due}

    # Life

    def start(self) -> None:
        """Begin to load what is resident from the start; `is_ready` tells when it is."""
        for name in self._due:
            self._start(self._tenants[name])

    async def stop(self, patience: float) -> None:
        """Finish what runs, within `patience` seconds, then end every worker."""
        self._stopping = True
        self._tell_change()
        for tenant in self._tenants.values():
            self._forget_expiry(tenant)
        workers = [each.supervisor for each in self._tenants.values() if each.supervisor is not None]
        leaving = [each.leaving for each in self._tenants.values() if each.leaving is not None]
        await asyncio.gather(*(worker.stop(patience) for worker in workers))
        await asyncio.gather(*leaving, *self._visits, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """Whether every model answers that has been resident since the start and was not unloaded since."""
        workers = (self._tenants[name].supervisor for name in self._due)
        return all(worker is not None and worker.state is State.READY for worker in workers)

    # Looking

    def tenants(self) -> tuple[Tenant, ...]:
        return tuple(self._tenants.values())

    def tenant(self, name: str) -> Tenant:
        """Raises ModelNotFound."""
        if name not in self._tenants:
            raise errors.ModelNotFound(f"there is no chat model {name!r} here", param="model")
        return self._tenants[name]

    def supervisors(self) -> dict[str, Supervisor]:
        """The workers that there are now, by their models' names."""
        return {each.name: each.supervisor for each in self._tenants.values() if each.supervisor is not None}

    @property
    def bytes_resident(self) -> int:
        """Of all models that have a process, by their estimates."""
        return sum(tenant.bytes for tenant in self._tenants.values() if tenant.supervisor is not None)

    @property
    def _bytes_taken(self) -> int:
        """What these processes have taken by now: less than their estimates while a cache is not full."""
        pids = [worker.pid for worker in self.supervisors().values()]
        return sum(memory.private(pid) for pid in pids if pid is not None)

    def add(self, tenant: Tenant) -> None:
        """One more model, which is loaded when it is asked for."""
        self._tenants[tenant.name] = tenant

    # Using

    @contextlib.asynccontextmanager
    async def lend(
        self, name: str, activity: Activity, keep_alive: float | None = None
    ) -> AsyncIterator[Supervisor]:
        """The model's worker, ready, and staying for as long as the block lasts; loads the model if need be.

        `keep_alive`: seconds that the model stays unused after it, None: as set. Raises DoesNotFit at once,
        ModelLoading after `patience`, Unavailable when the model cannot be loaded, Draining, Cancelled.
        """
        tenant = self.tenant(name)
        supervisor = await self._admit(tenant, activity)
        try:
            tenant.keep_alive = self._keep_alive if keep_alive is None else keep_alive
            yield supervisor
        finally:
            self._release(tenant)

    async def _admit(self, tenant: Tenant, activity: Activity) -> Supervisor:
        """Waits for room, then for the load; the caller is then one of the model's users."""
        began = time.monotonic()
        tenant.waiters += 1
        try:
            supervisor = await self._wait_for_room(tenant, activity)
            tenant.users += 1
            self._forget_expiry(tenant)
        finally:
            tenant.waiters -= 1
            self._settle(tenant)
        try:
            if supervisor.state is not State.READY:
                left = max(0.0, self._patience - (time.monotonic() - began))
                await self._wait_for_load(supervisor, left, activity)
        except BaseException:
            self._release(tenant)
            raise
        return supervisor

    async def _wait_for_room(self, tenant: Tenant, activity: Activity) -> Supervisor:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience) as timer:
                with _ending(activity, timer):
                    while not tenant.is_open:
                        self._ask_for_room(tenant)
                        if not tenant.is_open:
                            await self._changed.wait()
        if activity.is_cancelled:
            raise errors.Cancelled(CANCELLED)
        if not tenant.is_open or tenant.supervisor is None:
            raise errors.ModelLoading(explain.waiting(tenant, self.tenants(), self.budget), retry_after=2.0)
        return tenant.supervisor

    @staticmethod
    async def _wait_for_load(supervisor: Supervisor, patience: float, activity: Activity) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience + 1.0) as timer:
                with _ending(activity, timer):
                    await supervisor.wait_ready(patience)
        if activity.is_cancelled:
            raise errors.Cancelled(CANCELLED)

    def _release(self, tenant: Tenant) -> None:
        tenant.users -= 1
        tenant.used, tenant.used_at = time.monotonic(), time.time()
        if not tenant.users:
            self._leave_idle(tenant)
        self._tell_change()

    def _leave_idle(self, tenant: Tenant) -> None:
        """What becomes of a model that nobody uses any more."""
        worker = tenant.supervisor
        if worker is None or tenant.leaving is not None or tenant.waiters or self._stopping:
            return
        if worker.last_error is not None and worker.state is not State.READY and not self._stays(tenant):
            tenant.error, tenant.failed_at = worker.last_error, time.monotonic()
            self._unload(tenant, "it cannot be loaded")
        elif tenant.keep_alive < FOREVER and not tenant.pinned:
            self._expire_later(tenant)

    def _stays(self, tenant: Tenant) -> bool:
        """Whether the model is tried again and again when it cannot be loaded."""
        return tenant.pinned or tenant.name in self._due

    def _expire_later(self, tenant: Tenant) -> None:
        self._forget_expiry(tenant)
        if tenant.keep_alive == 0:
            self._unload(tenant, "its last request has ended")
            return
        loop = asyncio.get_running_loop()
        tenant.expires_at = time.time() + tenant.keep_alive
        tenant.expiry = loop.call_later(tenant.keep_alive, self._expire, tenant)

    def _expire(self, tenant: Tenant) -> None:
        self._forget_expiry(tenant)
        if tenant.is_open and tenant.is_idle and not tenant.pinned:
            self._unload(tenant, "nobody has used it for its keep_alive")

    @staticmethod
    def _forget_expiry(tenant: Tenant) -> None:
        if tenant.expiry is not None:
            tenant.expiry.cancel()
        tenant.expiry, tenant.expires_at = None, None

    # Room

    def _ask_for_room(self, tenant: Tenant) -> None:
        """One step towards loading the model. Raises when it cannot be loaded."""
        if self._stopping:
            raise errors.Draining("the server is stopping", retry_after=1.0)
        self._require_loadable(tenant)
        if tenant.supervisor is not None:
            return  # it is leaving, or closed for another's sake: its turn comes again
        if not tenant.reserved and not self._reserve(tenant):
            return
        others = self.bytes_resident
        if others + tenant.bytes <= self.budget or not any(each.leaving for each in self._tenants.values()):
            self._start(tenant)

    @staticmethod
    def _require_loadable(tenant: Tenant) -> None:
        """Raises Unavailable for a model that could not be loaded a moment ago, or never can be."""
        rested = time.monotonic() - tenant.failed_at > FAILED_REST
        if tenant.error is not None and (tenant.order is None or not rested):
            raise errors.Unavailable(tenant.error.message, retry_after=FAILED_REST)

    def _reserve(self, tenant: Tenant) -> bool:
        """Whether room is promised to the model now; those that must leave for it are on their way."""
        residents = [
            each.as_resident()
            for each in self._tenants.values()
            if each is not tenant and (each.supervisor is not None or each.reserved)
        ]
        free = self._available() + self._bytes_taken  # what models could take if all others stay as they are
        decision = plan(min(self.budget, free), residents, tenant.bytes)
        if isinstance(decision, Refusal):
            raise errors.DoesNotFit(explain.refused(tenant, decision, self.budget))
        if isinstance(decision, Waits):
            self._wait_in_line(tenant, decision)
            return False
        tenant.reserved, tenant.waits_since = True, None
        for name in decision.evictions:
            self.evictions += 1
            self._unload(self._tenants[name], f"{tenant.name} needs its memory")
        return True

    def _wait_in_line(self, tenant: Tenant, decision: Waits) -> None:
        """After a while, models in the way take no new requests: a busy one must not starve the others."""
        now = time.monotonic()
        if tenant.waits_since is None:
            tenant.waits_since = now
            asyncio.get_running_loop().call_later(FAIR_WAIT, self._tell_change)
        elif now - tenant.waits_since >= FAIR_WAIT:
            for name in decision.busy:
                if self._tenants[name].supervisor is not None and self._tenants[name].retiring_for is None:
                    self._tenants[name].retiring_for = tenant

    def _settle(self, tenant: Tenant) -> None:
        """Take back what was asked of others when nobody waits for the model any more, or it is there."""
        if tenant.waiters and tenant.supervisor is None:
            return
        tenant.reserved, tenant.waits_since = False, None
        for each in self._tenants.values():
            if each.retiring_for is tenant:
                each.retiring_for = None
        self._tell_change()

    def _start(self, tenant: Tenant) -> None:
        assert tenant.order is not None
        self.loads += 1
        tenant.reserved, tenant.error = False, None
        tenant.used = time.monotonic()
        tenant.keep_alive = self._keep_alive
        tenant.supervisor = self._launch(tenant.order)
        tenant.supervisor.start()
        self._tell_change()

    def _unload(self, tenant: Tenant, reason: str, patience: float = UNLOAD_SECONDS) -> None:
        assert tenant.supervisor is not None
        log.info("%s leaves memory: %s", tenant.name, reason)
        self._forget_expiry(tenant)
        self._due.discard(tenant.name)
        tenant.leaving = asyncio.create_task(self._leave(tenant, tenant.supervisor, patience))

    async def _leave(self, tenant: Tenant, supervisor: Supervisor, patience: float) -> None:
        try:
            await supervisor.stop(patience)
        finally:
            tenant.supervisor, tenant.leaving, tenant.retiring_for = None, None, None
            self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # Orders of an operator

    def load(self, name: str, keep_alive: float | None = None) -> asyncio.Task[None]:
        """Begin to load the model, as a request would; the task ends when it is there, or not to be had.

        Raises ModelNotFound, DoesNotFit, Unavailable.
        """
        tenant = self.tenant(name)
        tenant.failed_at = 0.0  # whoever asks in person need not wait for the rest to be over
        if not tenant.is_open:
            self._ask_for_room(tenant)
        task = asyncio.create_task(self._visit(tenant, keep_alive))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)
        return task

    async def _visit(self, tenant: Tenant, keep_alive: float | None) -> None:
        try:
            async with self.lend(tenant.name, Activity("load", "", "generate", tenant.name), keep_alive):
                pass
        except errors.HearthError as error:
            log.warning("%s is not loaded: %s", tenant.name, error.message)

    def unload(self, name: str, *, force: bool = False) -> None:
        """Begin to unload the model; `force` cancels its requests.

        Raises Conflict when it is pinned, or has requests and is not forced.
        """
        tenant = self.tenant(name)
        if tenant.supervisor is None or tenant.leaving is not None:
            return
        if tenant.pinned:
            raise errors.Conflict(f"{name} is pinned; unpin it first")
        count = tenant.users + tenant.waiters
        if count and not force:
            raise errors.Conflict(
                f"{name} is in use (requests: {count}); wait for their end, cancel them or use force"
            )
        self._unload(tenant, "an operator unloads it", FORCED_SECONDS if count else UNLOAD_SECONDS)
        if count:
            tenant.supervisor.abandon(errors.Cancelled("an operator has unloaded the model"))

    def pin(self, name: str, pinned: bool) -> None:
        """A pinned model is never unloaded for another, nor for being idle."""
        tenant = self.tenant(name)
        tenant.pinned = pinned
        if pinned:
            self._forget_expiry(tenant)
        elif not tenant.users:
            self._leave_idle(tenant)
        self._tell_change()


@contextlib.contextmanager
def _ending(activity: Activity, timer: asyncio.Timeout) -> Iterator[None]:
    """Lets the activity's cancellation end what is timed."""
    activity.end = lambda: timer.reschedule(asyncio.get_running_loop().time())
    try:
        yield
    finally:
        activity.end = None
