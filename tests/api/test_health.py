"""What watches a server: /healthz, /readyz, /metrics, /version, /openapi.json, and requests' ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.routes import OPERATIONS
from appliance.version import VERSION
from tests.serving import CHAT, EMBED, Served, chat_body


def figures(http: httpx.Client) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics, by its name and its labels' values in their names' order."""
    response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_health_and_version(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/version").json() == {"version": VERSION}


def test_readiness_tells_of_every_worker(http: httpx.Client) -> None:
    readiness = http.get("/readyz").json()
    assert readiness["status"] == "ready"
    assert set(readiness["workers"]) == {CHAT, "encoder"}
    for worker in readiness["workers"].values():
        assert (worker["state"], worker["progress"], worker["error"]) == ("ready", 1.0, None)


def test_metrics_count_requests_by_path_and_status(http: httpx.Client) -> None:
    before = figures(http)
    http.post("/v1/chat/completions", json=chat_body(max_tokens=2))
    http.get("/v1/models/no-such-model")
    http.get(f"/some/random/path-{id(before)}")
    after = figures(http)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0.0)

    assert grown("hearth_http_requests_total", "POST", "/v1/chat/completions", "200") == 1
    assert grown("hearth_http_requests_total", "GET", "/v1/models/{model}", "404") == 1
    assert grown("hearth_http_requests_total", "GET", "other", "404") == 1
    assert grown("hearth_tokens_total", "completion", CHAT, "local") == 2
    assert grown("model_inference_latency_seconds_count", "local", CHAT, "local") == 1
    assert after[("concurrent_session_count",)] == 1, "the request for the metrics itself"


def test_metrics_show_the_workers(http: httpx.Client) -> None:
    found = figures(http)
    for worker in (CHAT, "encoder"):
        assert found[("hearth_worker_up", worker)] == 1
        assert found[("hearth_worker_restarts", worker)] == 0
        assert found[("hearth_worker_slots", worker)] > 0
    assert found[("hearth_worker_cells", CHAT)] >= 8192


def test_a_request_keeps_its_harmless_id_and_gets_one_otherwise(http: httpx.Client) -> None:
    kept = http.get("/healthz", headers={"x-request-id": "my-id_1.2"})
    assert kept.headers.get_list("x-request-id") == ["my-id_1.2"]
    for harmful in ("a b", "x" * 129, "<script>"):
        fresh = http.get("/healthz", headers={"x-request-id": harmful}).headers.get_list("x-request-id")
        assert re.fullmatch(r"req-[0-9a-f]{24}", fresh[0])
        assert len(fresh) == 1


def test_answers_name_their_model_and_route(http: httpx.Client) -> None:
    answers = [
        http.post("/v1/chat/completions", json=chat_body(max_tokens=1)),
        http.post("/v1/chat/completions", json=chat_body(max_tokens=1, stream=True)),
        http.post("/v1/embeddings", json={"model": EMBED, "input": "hi"}),
    ]
    for answer in answers:
        assert answer.headers["x-hearth-model"] == json.loads(answer.request.content)["model"]
        assert answer.headers["x-hearth-route"] == "local"
        assert answer.headers["x-hearth-reason"] == "asked for by its name"
        assert answer.headers["x-hearth-attempts"].split()[0] == f"local/{answer.headers['x-hearth-model']}"
        assert "x-hearth-warning" not in answer.headers
        assert "server" not in answer.headers


# /openapi.json


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    response = http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for child in tree.values():
            yield from nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from nodes(child)


def test_the_document_has_every_operation(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(each.method, each.path) for each in (*OPERATIONS, DOCUMENT_OPERATION)}
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == VERSION


def test_the_documents_references_lead_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = {node["$ref"] for node in nodes(document) if "$ref" in node}
    assert references == {f"#/components/schemas/{name}" for name in schemas}


def test_the_documents_operations_are_well_formed(document: dict[str, Any]) -> None:
    operations = [each for item in document["paths"].values() for each in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"]
            assert "200" in operation["responses"]
            assert method in ("post", "put") or "requestBody" not in operation
            given = operation.get("parameters", ())
            in_path = {each["name"] for each in given if each["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path))
            assert all(answer["description"] for answer in operation["responses"].values())


def test_the_documents_patterns_are_those_of_json_schema(document: dict[str, Any]) -> None:
    patterns = [node["pattern"] for node in nodes(document) if isinstance(node.get("pattern"), str)]
    assert not [pattern for pattern in patterns if "\\A" in pattern or "\\Z" in pattern]


def test_every_number_and_list_of_a_request_is_bounded(document: dict[str, Any]) -> None:
    for operation in (each for item in document["paths"].values() for each in item.values()):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        schemas = [("query", each["schema"]) for each in operation.get("parameters", ())]
        if content is not None:
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False
            schemas += schema["properties"].items()
        for name, parameter in schemas:
            for node in nodes(parameter):
                if node.get("type") in ("integer", "number"):
                    assert {"minimum", "exclusiveMinimum"} & set(node), name
                    assert "maximum" in node, name
                if node.get("type") == "array":
                    assert "maxItems" in node, name


def test_head_is_get_without_a_body(server: Served) -> None:
    response = server.http.head("/healthz")
    assert (response.status_code, response.content) == (200, b"")
