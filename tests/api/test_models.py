"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

import httpx

from tests.serving import CHAT, EMBED, MULTILINGUAL, RERANK


def test_every_served_model_is_listed_with_what_it_is_for(http: httpx.Client) -> None:
    listing = http.get("/v1/models").json()
    assert listing["object"] == "list"
    roles = {model["id"]: (model["role"], model["state"]) for model in listing["data"]}
    assert roles == {
        CHAT: ("chat", "ready"),
        EMBED: ("embed", "ready"),
        MULTILINGUAL: ("embed", "ready"),
        RERANK: ("rerank", "ready"),
    }
    for model in listing["data"]:
        assert model["object"] == "model"
        assert model["owned_by"] == "hearth"
        assert model["created"] > 1_600_000_000


def test_a_model_is_found_by_its_name(http: httpx.Client) -> None:
    for model in http.get("/v1/models").json()["data"]:
        assert http.get(f"/v1/models/{model['id']}").json() == model


def test_the_facts_are_the_models_own(http: httpx.Client) -> None:
    chat = http.get(f"/v1/models/{CHAT}").json()
    assert chat["context_length"] == 8192
    embed = http.get(f"/v1/models/{EMBED}").json()
    assert (embed["context_length"], embed["dimensions"]) == (256, 384)


def test_a_model_that_is_not_there_is_404(http: httpx.Client) -> None:
    response = http.get("/v1/models/gpt-4o")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
