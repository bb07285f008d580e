"""/admin/v1/config: the settings of a running server, their versions, and a new text for them.

Reading and reloading is for everybody who can reach the server; changing the file is off until the operator
turns it on (`config_api`), for whoever changes it can name files, keys and programs.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.operation import Operation
from appliance.config.diff import Change, leaves_of
from appliance.config.edit import edited
from appliance.config.history import Version
from appliance.config.reload import Configuration, Taken
from appliance.configuration import (
    CheckedConfig,
    ConfigStatus,
    ConfigText,
    ConfigVersion,
    ConfigVersionList,
    NewConfig,
    Rollback,
    SettingChange,
    SettingList,
    TakenConfig,
)
from appliance.errors import ConfigError, Forbidden, InvalidValue, MissingParameter, Unavailable

MAX_VERSIONS = 100
CHANGING = (400, 403, 413, 503)


async def get_config(http: Request) -> Response:
    configuration = _configuration(http)
    latest = configuration.version
    return json_body(
        ConfigStatus(
            file=str(configuration.file),
            version=latest.number if latest else 0,
            settings=leaves_of(configuration.settings),
            pending=_changes(configuration.pending),
            error=configuration.error or None,
        )
    )


async def list_versions(http: Request) -> Response:
    versions = _configuration(http).history.versions()[:MAX_VERSIONS]
    return json_body(ConfigVersionList(data=tuple(_version(version) for version in versions)))


async def reload_config(http: Request) -> Response:
    configuration = _configuration(http)
    try:
        return json_body(_taken(configuration.reload()))
    except ConfigError as error:
        raise InvalidValue(error.message, code="config_error") from error


async def get_config_text(http: Request) -> Response:
    configuration = _configuration(http)
    try:
        return json_body(ConfigText(file=str(configuration.file), toml=configuration.read()))
    except ConfigError as error:
        raise InvalidValue(error.message, code="config_error") from error


async def list_settings(http: Request) -> Response:
    configuration = _configuration(http)
    can_change = runtime_of(http).settings.config_api
    return json_body(SettingList(data=configuration.described(), can_change=can_change))


async def check_config(http: Request) -> Response:
    configuration = _changeable(http)
    request = await read_request(http, NewConfig)
    try:
        text = _text(request, configuration)
        changes = configuration.check(text)
    except ConfigError as error:
        raise InvalidValue(error.message, param=_given(request), code="config_error") from error
    return json_body(CheckedConfig(changes=_changes(changes), toml=text))


async def replace_config(http: Request) -> Response:
    configuration = _changeable(http)
    request = await read_request(http, NewConfig)
    try:
        taken = configuration.replace(_text(request, configuration), f"{principal_of(http).id} (api)")
    except ConfigError as error:
        raise InvalidValue(error.message, param=_given(request), code="config_error") from error
    return json_body(_taken(taken))


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


def _text(request: NewConfig, configuration: Configuration) -> str:
    """The whole text that the request means. Raises ConfigError, MissingParameter, InvalidValue."""
    if request.toml is not None and request.set is not None:
        raise InvalidValue("toml and set are both given; one of them", param="set")
    if request.set is not None:
        return edited(configuration.read(), request.set)
    if request.toml is None:
        raise MissingParameter("give either toml, the whole text, or set, values by key", param="toml")
    return request.toml


def _given(request: NewConfig) -> str:
    return "toml" if request.set is None else "set"


def _changes(changes: tuple[Change, ...]) -> tuple[SettingChange, ...]:
    return tuple(
        SettingChange(key=c.key, before=c.before, after=c.after, needs_restart=c.needs_restart)
        for c in changes
    )


def _taken(taken: Taken) -> TakenConfig:
    return TakenConfig(
        version=taken.version, changes=_changes(taken.changes), pending=_changes(taken.pending)
    )


def _version(version: Version) -> ConfigVersion:
    return ConfigVersion(
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
        ConfigStatus,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/config/settings",
        list_settings,
        "Every setting: what may be written, what is in force, and where that was written",
        SettingList,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/config/text",
        get_config_text,
        "hearth.toml as it is",
        ConfigText,
        errors=(400, 503),
        access="admin",
    ),
    Operation(
        "PUT",
        "/admin/v1/config",
        replace_config,
        "Take a new configuration",
        TakenConfig,
        NewConfig,
        (400, 403, 413, 503, 507),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/config/check",
        check_config,
        "What a configuration would change",
        CheckedConfig,
        NewConfig,
        (400, 403, 413, 503),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/config/reload",
        reload_config,
        "Read the file again",
        TakenConfig,
        errors=(400, 503),
        access="admin",
    ),
    Operation(
        "GET",
        "/admin/v1/config/history",
        list_versions,
        "The latest versions",
        ConfigVersionList,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/config/rollback",
        roll_back,
        "Take an earlier version",
        TakenConfig,
        Rollback,
        (400, 403, 404, 503, 507),
        access="admin",
    ),
)
