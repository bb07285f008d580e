"""/admin/v1/doctor: what the doctor finds on this machine while the server runs."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from appliance.admin import DoctorReport
from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.api.operation import Operation
from appliance.doctor import examine


async def examine_machine(http: Request) -> Response:
    """One examination at a time: it starts a process that loads the engines."""
    runtime = runtime_of(http)
    library, budget = runtime.library, runtime.residency.budget
    async with runtime.examining:
        found = await asyncio.to_thread(lambda: tuple(examine(runtime.settings, library, budget=budget)))
    return json_body(DoctorReport(data=found))


DOCTOR_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/doctor",
        examine_machine,
        "What is here, what fits, what is wrong with this machine and what to do",
        DoctorReport,
        errors=(503,),
        access="operator",
    ),
)
