"""What is told about room in memory: why there is none for a model, and who has it."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.residency.plan import Refusal
from appliance.residency.tenant import Tenant

MIB = 1024 * 1024


def refused(tenant: Tenant, refusal: Refusal, budget: int) -> str:
    """Why the model cannot be loaded, with the numbers. `budget`: bytes that chat models may take."""
    told = f"the model {tenant.name} needs about {tenant.needs}; "
    if refusal.budget < budget:
        told += f"only {refusal.budget // MIB:,} MiB of this machine's memory are free for models"
    else:
        told += f"chat models may take {refusal.budget // MIB:,} MiB (generator.memory)"
    if refusal.pinned:
        held = f"{refusal.pinned_bytes // MIB:,} MiB are held by pinned models"
        told += f", of which {held} ({', '.join(refusal.pinned)})"
    return f"{told}; lower generator.cells, raise generator.memory or use a smaller model"


def waiting(tenant: Tenant, tenants: Iterable[Tenant], budget: int) -> str:
    """What the model waits for."""
    busy = [each for each in tenants if each.supervisor is not None and each.users]
    held = ", ".join(f"{each.name} ({each.users} running, {each.bytes // MIB:,} MiB)" for each in busy)
    return (
        f"there is no room yet for {tenant.name}, which needs about {tenant.bytes // MIB:,} MiB of "
        f"{budget // MIB:,} MiB; in use: {held or 'nothing'}; try again shortly"
    )
