"""A response before anything is said: what was asked, as it was understood."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.context import runtime_of
from appliance.api.generation import now
from appliance.api.opening import scheduling_class_of
from appliance.api.responses.context import conversation_id
from appliance.api.responses.prompting import Context
from appliance.api.responses.replies import ConversationId, ResponseBody, new_id
from appliance.api.responses.schemas import CreateResponse


def new_body(http: Request, request: CreateResponse, context: Context, *, keeps: bool) -> ResponseBody:
    defaults = runtime_of(http).settings.generator
    conversation = conversation_id(request)
    return ResponseBody(
        id=new_id("resp"),
        created_at=now(),
        status="queued",
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        output=[],
        parallel_tool_calls=context.toolbox.choice.parallel,
        previous_response_id=request.previous_response_id,
        conversation=None if conversation is None else ConversationId(id=conversation),
        prompt_cache_key=request.prompt_cache_key,
        reasoning={"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
        safety_identifier=request.safety_identifier,
        service_tier=scheduling_class_of(request.service_tier),
        store=keeps,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        text={"format": {"type": "text"}} | (msgspec.to_builtins(request.text) if request.text else {}),
        tool_choice=msgspec.to_builtins(request.tool_choice) or "auto",
        tools=[_tool_shown(tool) for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=request.metadata or {},
        warnings=[],
    )


def _tool_shown(tool: Any) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(tool)
    return ({"parameters": None, "strict": None} if tool.type == "function" else {}) | shown
