"""The paths of responses and conversations, as `routes` lists them."""

from __future__ import annotations

from appliance.api.operation import Operation
from appliance.api.responses import conversations, endpoints, replies, schemas

READING = (400, 404, 503)
WRITING = (400, 404, 408, 413, 429, 503, 507)
GENERATING = (400, 404, 408, 413, 429, 499, 500, 503, 504, 507)

RESPONSE = "/v1/responses/{response_id}"
CONVERSATION = "/v1/conversations/{conversation_id}"
ITEM = CONVERSATION + "/items/{item_id}"

RESPONSE_OPERATIONS = (
    Operation(
        "POST",
        "/v1/responses",
        endpoints.create_response,
        "Answer a conversation, and keep the answer to go on from",
        replies.ResponseBody,
        schemas.CreateResponse,
        GENERATING,
        streams=True,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/responses/input_tokens",
        endpoints.count_input_tokens,
        "How many tokens a request's prompt has",
        replies.InputTokens,
        schemas.CountInputTokens,
        GENERATING,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/responses/compact",
        endpoints.compact_response,
        "Sum up a long conversation",
        replies.CompactedResponse,
        schemas.CompactResponse,
        GENERATING,
        access="reader",
    ),
    Operation(
        "GET",
        RESPONSE,
        endpoints.get_response,
        "A kept response, or the events of one in the making",
        replies.ResponseBody,
        errors=READING,
        streams=True,
        query=schemas.RetrieveQuery,
        access="user",
    ),
    Operation(
        "DELETE",
        RESPONSE,
        endpoints.delete_response,
        "Delete a response",
        replies.Deleted,
        errors=WRITING,
        access="user",
    ),
    Operation(
        "POST",
        RESPONSE + "/cancel",
        endpoints.cancel_response,
        "End a response that is made in the background",
        replies.ResponseBody,
        errors=WRITING,
        access="user",
    ),
    Operation(
        "GET",
        RESPONSE + "/input_items",
        endpoints.list_input_items,
        "What a response was asked",
        replies.ItemList,
        errors=READING,
        query=schemas.ItemsQuery,
        access="user",
    ),
    Operation(
        "POST",
        "/v1/conversations",
        conversations.create_conversation,
        "Begin a conversation that is kept",
        replies.Conversation,
        schemas.CreateConversation,
        WRITING,
        access="user",
    ),
    Operation(
        "GET",
        CONVERSATION,
        conversations.get_conversation,
        "One conversation",
        replies.Conversation,
        errors=READING,
        access="user",
    ),
    Operation(
        "POST",
        CONVERSATION,
        conversations.update_conversation,
        "Change a conversation's metadata",
        replies.Conversation,
        schemas.UpdateMetadata,
        WRITING,
        access="user",
    ),
    Operation(
        "DELETE",
        CONVERSATION,
        conversations.delete_conversation,
        "Delete a conversation and its items",
        replies.Deleted,
        errors=WRITING,
        access="user",
    ),
    Operation(
        "POST",
        CONVERSATION + "/items",
        conversations.create_conversation_items,
        "Add items to a conversation",
        replies.ItemList,
        schemas.CreateItems,
        WRITING,
        access="user",
    ),
    Operation(
        "GET",
        CONVERSATION + "/items",
        conversations.list_conversation_items,
        "A conversation's items",
        replies.ItemList,
        errors=READING,
        query=schemas.ItemsQuery,
        access="user",
    ),
    Operation(
        "GET",
        ITEM,
        conversations.get_conversation_item,
        "One item",
        "application/json",
        errors=READING,
        access="user",
    ),
    Operation(
        "DELETE",
        ITEM,
        conversations.delete_conversation_item,
        "Take an item out of a conversation",
        replies.Conversation,
        errors=WRITING,
        access="user",
    ),
)
