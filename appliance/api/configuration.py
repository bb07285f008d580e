"""/admin/v1/config: the settings of a running server, their versions, and a new text for them.

Reading and reloading is for everybody who can reach the server; changing the file is off until the operator
turns it on (`config_api`), for whoever changes it can name files, keys and programs.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.operation import Operation
from appliance.config.diff import Change, leaves_of
from appliance.config.history import Version
from appliance.config.reload import Configuration, Taken
from appliance.errors import ConfigError, Forbidden, InvalidValue, Unavailable

MAX_VERSIONS = 100


class ChangeBody(Struct, kw_only=True):
    key: str
    before: Any
    after: Any
    needs_restart: bool


class VersionBody(Struct, kw_only=True):
    version: int
    time: int
    author: str
    changes: list[ChangeBody]


class VersionList(Struct, kw_only=True):
    object: str = "list"
    data: list[VersionBody]


class ConfigBody(Struct, kw_only=True):
    """`settings`: what is in force, by key; `pending`: what the file says and only a restart will bring;
    `error`: why the file as it is was not taken.
    """

    file: str
    version: int
    settings: dict[str, Any]
    pending: list[ChangeBody]
    error: str | None


class TakenBody(Struct, kw_only=True):
    version: int
    changes: list[ChangeBody]
    pending: list[ChangeBody]


class CheckedBody(Struct, kw_only=True):
    changes: list[ChangeBody]


class NewConfig(Struct, forbid_unknown_fields=True, kw_only=True):
    """`toml`: the whole text of hearth.toml."""

    toml: Annotated[str, Meta(max_length=1_000_000)]


class Rollback(Struct, forbid_unknown_fields=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=10**9)]


async def get_config(http: Request) -> Response:
    configuration = _configuration(http)
    latest = configuration.version
    return json_body(
        ConfigBody(
            file=str(configuration.file),
            version=latest.number if latest else 0,
            settings=leaves_of(configuration.settings),
            pending=_changes(configuration.pending),
            error=configuration.error or None,
        )
    )


async def list_versions(http: Request) -> Response:
    versions = _configuration(http).history.versions()[:MAX_VERSIONS]
    return json_body(VersionList(data=[_version(version) for version in versions]))


async def reload_config(http: Request) -> Response:
    configuration = _configuration(http)
    try:
        return json_body(_taken(configuration.reload()))
    except ConfigError as error:
        raise InvalidValue(error.message, code="config_error") from error


async def check_config(http: Request) -> Response:
    configuration = _changeable(http)
    request = await read_request(http, NewConfig)
    try:
        return json_body(CheckedBody(changes=_changes(configuration.check(request.toml))))
    except ConfigError as error:
        raise InvalidValue(error.message, param="toml", code="config_error") from error


async def replace_config(http: Request) -> Response:
    configuration = _changeable(http)
    request = await read_request(http, NewConfig)
    try:
        return json_body(_taken(configuration.replace(request.toml, f"{principal_of(http).id} (api)")))
    except ConfigError as error:
        raise InvalidValue(error.message, param="toml", code="config_error") from error


async def roll_back(http: Request) -> Response:
    configuration = _changeable(http)
    request = await read_request(http, Rollback)
    try:
        return json_body(_taken(configuration.rollback(request.version, f"{principal_of(http).id} (api)")))
    except ConfigError as error:
        raise InvalidValue(error.message, param="version", code="config_error") from error


def _configuration(http: Request) -> Configuration:
    configuration = runtime_of(http).configuration
    if configuration is None:
        raise Unavailable("this server has no configuration file")
    return configuration


def _changeable(http: Request) -> Configuration:
    if not runtime_of(http).settings.config_api:
        raise Forbidden(
            "the configuration cannot be changed through the API here; edit the file, or set "
            "config_api = true and restart"
        )
    return _configuration(http)


def _changes(changes: tuple[Change, ...]) -> list[ChangeBody]:
    return [
        ChangeBody(key=c.key, before=c.before, after=c.after, needs_restart=c.needs_restart) for c in changes
    ]


def _taken(taken: Taken) -> TakenBody:
    return TakenBody(version=taken.version, changes=_changes(taken.changes), pending=_changes(taken.pending))


def _version(version: Version) -> VersionBody:
    return VersionBody(
        version=version.number,
        time=int(version.time),
        author=version.author,
        changes=_changes(version.changes),
    )


CONFIG_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/config",
        get_config,
        "The settings in force",
        ConfigBody,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "PUT",
        "/admin/v1/config",
        replace_config,
        "Take a new configuration",
        TakenBody,
        NewConfig,
        (400, 403, 413, 503, 507),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/config/check",
        check_config,
        "What a configuration would change",
        CheckedBody,
        NewConfig,
        (400, 403, 413, 503),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/config/reload",
        reload_config,
        "Read the file again",
        TakenBody,
        errors=(400, 503),
        access="admin",
    ),
    Operation(
        "GET",
        "/admin/v1/config/history",
        list_versions,
        "The latest versions",
        VersionList,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/config/rollback",
        roll_back,
        "Take an earlier version",
        TakenBody,
        Rollback,
        (400, 403, 404, 503, 507),
        access="admin",
    ),
)
