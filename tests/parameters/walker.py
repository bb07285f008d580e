"""Walks of what is served: each sees one row of the parameter table do what the row says.

A walk is a function of a `Walker`, registered for the rows that it sees. Knows no surface.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import httpx

from tests.parameters.asking import BASES

Walk = Callable[["Walker"], None]
WALKS: dict[tuple[str, str], Walk] = {}


def walks(path: str, *parameters: str) -> Callable[[Walk], Walk]:
    """Registers a walk for one or several rows of `path`."""

    def register(walk: Walk) -> Walk:
        for parameter in parameters:
            assert (path, parameter) not in WALKS, f"{path} {parameter} is walked twice"
            WALKS[path, parameter] = walk
        return walk

    return register


def elsewhere(test: Callable[..., None]) -> None:
    """Names the test that sees a row on a server of its own; without it this import would fail."""
    assert callable(test)


class Walker:
    """Asks the real server. Changes replace parameters of the path's small request; None takes one away."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def send(self, path: str, **changes: Any) -> httpx.Response:
        body = copy.deepcopy(BASES.get(path, {})) | changes
        return self.http.post(path, json={name: value for name, value in body.items() if value is not None})

    def ask(self, path: str, **changes: Any) -> Any:
        response = self.send(path, **changes)
        assert response.status_code == 200, response.text
        return response.json()

    def get(self, path: str, **query: Any) -> Any:
        response = self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def warned(self, path: str, **changes: Any) -> str:
        response = self.send(path, **changes)
        assert response.status_code == 200, response.text
        return response.headers.get("x-hearth-warning", "")

    def refused(self, path: str, word: str, status: int = 400, **changes: Any) -> None:
        """Fails unless the server refuses and says `word`."""
        response = self.send(path, **changes)
        assert response.status_code == status, response.text
        assert word in response.text, response.text
