"""Every row of the parameter table is asked of the real server: what is refused names the parameter, what is
ignored is warned about, what is accepted is not, and a value of another kind is an error that names it.

What is served is walked in the tests beside this one, surface by surface; `test_walks` sees that none is left
out.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from appliance.api import parameter_table
from appliance.api.operation import Operation
from appliance.api.parameter_table import SURFACES, Entry
from appliance.api.routes import OPERATIONS
from tests.parameters.asking import BASES, Asked, paths_of, told_of

ROWS = list(parameter_table.entries())
# Values that ask for something, where the first one of the parameter's kind asks for nothing.
ASKING: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "best_of": 2,
    "service_tier": "scale",
    "speed": "fast",
    "metadata": {"user_id": "ada"},
    "reasoning.mode": "pro",
    "truncate": True,
    "messages[].audio": {"id": "audio_1"},
    "context_management": {"edits": [{"type": "clear"}]},
}
FOREIGN: tuple[Any, ...] = ({"?": [{}]}, [{"?": [{}]}], "\0", 0.5)


@pytest.fixture(scope="module", autouse=True)
def nothing_left(http: httpx.Client) -> Iterator[None]:
    """What accepted requests have made goes again: other tests look at the same server's bases."""
    yield
    for store in http.get("/v1/vector_stores", params={"limit": 100}).json()["data"]:
        if store["name"] == BASES["/v1/vector_stores"]["name"]:
            http.delete(f"/v1/vector_stores/{store['id']}")


def kinds() -> dict[tuple[str, str], Any]:
    """The type of every row's parameter."""
    found = {}
    for surface in SURFACES:
        hints = typing.get_type_hints(surface.kind, include_extras=True)
        for field in msgspec.structs.fields(surface.kind):
            found[surface.path, surface.prefix + field.encode_name] = hints[field.name]
    return found


KINDS = kinds()


def value_for(entry: Entry) -> Any:
    """A value of the parameter's kind that asks for something."""
    if entry.parameter in ASKING:
        return ASKING[entry.parameter]
    for value in (True, 5, "x", ["x"], {"x": "x"}):
        if KINDS[entry.path, entry.parameter] is not Any and _fits(value, KINDS[entry.path, entry.parameter]):
            return value
    options = typing.get_args(KINDS[entry.path, entry.parameter])
    literal = next((typing.get_args(each)[0] for each in options if typing.get_args(each)), None)
    return literal or {"x": "x"}


def foreign_to(kind: Any) -> Any:
    """A value that is not of this kind; None where everything is."""
    return next((value for value in FOREIGN if not _fits(value, kind)), None)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def rows(*verdicts: str) -> list[Any]:
    return [
        pytest.param(path, entry, id=f"{path} {entry.parameter}")
        for entry in ROWS
        for path in paths_of(entry)
        if entry.verdict in verdicts and path in BASES
    ]


@pytest.mark.parametrize("path", BASES)
def test_the_plain_request_is_answered_without_warnings(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=BASES[path])
    assert response.status_code == 200, response.text
    assert "x-hearth-warning" not in response.headers


@pytest.mark.parametrize(("path", "entry"), rows("refused"))
def test_what_is_refused_names_the_parameter_and_says_why(
    http: httpx.Client, path: str, entry: Entry
) -> None:
    asked = Asked(path, entry.parameter).with_value(value_for(entry))
    response = asked.send(http)
    assert response.status_code == 400, response.text
    param, message = told_of(response)
    assert param in ("", asked.name)
    assert message == f"{asked.name} cannot be served: {entry.note}"


@pytest.mark.parametrize(("path", "entry"), rows("ignored"))
def test_what_is_ignored_is_answered_with_a_warning(http: httpx.Client, path: str, entry: Entry) -> None:
    asked = Asked(path, entry.parameter).with_value(value_for(entry))
    response = asked.send(http)
    assert response.status_code == 200, response.text
    assert f"{asked.name} is ignored: {entry.note}" in response.headers["x-hearth-warning"]


@pytest.mark.parametrize(("path", "entry"), rows("accepted"))
def test_what_changes_nothing_is_taken_without_a_word(http: httpx.Client, path: str, entry: Entry) -> None:
    plain = Asked(path, entry.parameter)
    warnings = plain.send(http).headers.get("x-hearth-warning")
    response = plain.with_value(value_for(entry)).send(http)
    assert response.status_code == 200, response.text
    assert response.headers.get("x-hearth-warning") == warnings


@pytest.mark.parametrize(("path", "entry"), rows("served", "mapped", "ignored", "refused", "accepted"))
def test_a_value_of_another_kind_is_an_error_that_names_the_parameter(
    http: httpx.Client, path: str, entry: Entry
) -> None:
    foreign = foreign_to(KINDS[entry.path, entry.parameter])
    if foreign is None:
        return
    asked = Asked(path, entry.parameter).with_value(foreign)
    response = asked.send(http)
    assert response.status_code == 400, response.text
    param, message = told_of(response)
    assert param.startswith(asked.name) if param else asked.name in message, response.text


def client_operations() -> Iterator[Operation]:
    for operation in OPERATIONS:
        if operation.request is not None and not operation.path.startswith("/admin/"):
            yield operation


def test_every_request_of_every_surface_is_in_the_table() -> None:
    told = {(path, surface.kind) for surface in SURFACES for path in surface.path.split(" and ")}
    assert [
        (each.path, each.request) for each in client_operations() if (each.path, each.request) not in told
    ] == []
