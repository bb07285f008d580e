"""The paths of /admin/v1, as `routes` lists them."""

from __future__ import annotations

from appliance import admin as records
from appliance.api import admin
from appliance.api.operation import Operation

READING = (404,)
CHANGING = (400, 404, 409, 503)

MODEL = "/admin/v1/models/{model}"

ADMIN_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/status",
        admin.get_status,
        "Health, workers, memory, speed, and what needs attention",
        records.ServerStatus,
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/models",
        admin.list_model_statuses,
        "Every local model: whether it is in memory, what it takes, who uses it",
        records.ModelStatusList,
        access="operator",
    ),
    Operation(
        "GET",
        MODEL,
        admin.get_model_status,
        "One model",
        records.ModelStatus,
        errors=READING,
        access="operator",
    ),
    Operation(
        "POST",
        f"{MODEL}/load",
        admin.load_model,
        "Load a chat model into memory",
        records.ModelStatus,
        errors=CHANGING,
        query=admin.LoadQuery,
        access="operator",
    ),
    Operation(
        "POST",
        f"{MODEL}/unload",
        admin.unload_model,
        "Unload a chat model",
        records.ModelStatus,
        errors=CHANGING,
        query=admin.UnloadQuery,
        access="operator",
    ),
    Operation(
        "POST",
        f"{MODEL}/pin",
        admin.pin_model,
        "Keep a chat model in memory until the server ends",
        records.ModelStatus,
        errors=CHANGING,
        access="operator",
    ),
    Operation(
        "POST",
        f"{MODEL}/unpin",
        admin.unpin_model,
        "Let a pinned model leave memory",
        records.ModelStatus,
        errors=CHANGING,
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/requests",
        admin.list_active_requests,
        "The requests that are with a model now",
        records.ActiveRequestList,
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/requests/{request_id}/cancel",
        admin.cancel_request,
        "End a request, by its id or by that of its HTTP request",
        records.CancelledRequests,
        errors=READING,
        access="operator",
    ),
)
