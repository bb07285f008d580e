"""The connection to a server, its models, and what operators see and do.

Errors come back as the typed errors they were on the server; a server that is not there is Unavailable with
the sentence that helps.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from appliance import address, admin, audit, configuration, paths
from appliance.client.answer import Note, RemoteError, read, unheard
from appliance.errors import ConfigError, HearthError, InternalError, Unavailable

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_SECONDS = 3.0

Record = TypeVar("Record")


class Client:
    """A connection to a Hearth server; a context manager."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        authority: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`authority`: a PEM file with the certificates to trust, for a server with one of its own.
        Without `url`: `$HEARTH_URL`, else where this home's server says it is, else the default port here.
        `transport`: what carries the requests, in place of connections of this client's own.
        """
        self.url = (url or os.environ.get("HEARTH_URL") or address.find(paths.home()) or DEFAULT_URL).rstrip(
            "/"
        )
        key = key or os.environ.get("HEARTH_API_KEY")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
            verify=trust(authority) if transport is None else True,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """The served models' cards, as /v1/models gives them."""
        found: list[dict[str, Any]] = self._get("/v1/models")["data"]
        return found

    def chat_models(self) -> list[str]:
        return [model["id"] for model in self.models() if model["role"] == "chat"]

    def stream_chat(
        self, model: str, messages: Sequence[dict[str, str]], *, note: Note = unheard, **options: Any
    ) -> Generator[str]:
        """The answer's text as it comes; the server's warnings go to `note`. Raises RemoteError, also for an
        error in mid-stream, and Unavailable."""
        for said in self._stream_answer({"model": model, "messages": list(messages), **options}, note):
            if isinstance(said, str):
                yield said

    def _stream_answer(self, body: dict[str, Any], note: Note) -> Iterator[str | dict[str, Any]]:
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._error(response)
                yield from read(response, note)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def get(self, path: str) -> Any:
        """The JSON answer of `path`. Raises RemoteError, Unavailable."""
        return self._get(path)

    def text(self, path: str) -> str:
        """The answer of `path` as it is. Raises RemoteError, Unavailable."""
        return self._request("GET", path).text

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The same, for a JSON body."""
        return self._request("POST", path, body).json()

    # What operators see and do

    def status(self) -> admin.ServerStatus:
        """How the server is doing: health, workers, models, memory, speed, advice."""
        return self._ask("GET", "/admin/v1/status", admin.ServerStatus)

    def model_statuses(self) -> admin.ModelStatusList:
        return self._ask("GET", "/admin/v1/models", admin.ModelStatusList)

    def model_status(self, model: str) -> admin.ModelStatus:
        return self._ask("GET", _of(model), admin.ModelStatus)

    def load_model(
        self, model: str, *, wait: float = 0.0, keep_alive: str | None = None
    ) -> admin.ModelStatus:
        """Begin to load it; how far it is after `wait` seconds, or when it is over."""
        query = {"wait": str(wait)} | ({"keep_alive": keep_alive} if keep_alive is not None else {})
        return self._ask("POST", f"{_of(model)}/load?{httpx.QueryParams(query)}", admin.ModelStatus)

    def unload_model(self, model: str, *, force: bool = False) -> admin.ModelStatus:
        """Raises RemoteError while requests run on it, unless `force`, which ends them."""
        return self._ask("POST", f"{_of(model)}/unload?force={str(force).lower()}", admin.ModelStatus)

    def pin_model(self, model: str, *, pinned: bool = True) -> admin.ModelStatus:
        """Keep it in memory, or let it leave again; until the server ends."""
        return self._ask("POST", f"{_of(model)}/{'pin' if pinned else 'unpin'}", admin.ModelStatus)

    def folder(self, path: str = "/") -> admin.Folder:
        """A folder of the server's machine, and the models in it. Raises RemoteError."""
        return self._ask("GET", f"/admin/v1/folder?{httpx.QueryParams({'path': path})}", admin.Folder)

    def import_model(self, path: str, name: str | None = None) -> admin.ModelJob:
        """Begin to bring in a model from the server's disk; `model_job` tells how far it is."""
        body = {"path": path} | ({"name": name} if name is not None else {})
        return self._told("/admin/v1/models/import", body, admin.ModelJob)

    def catalogue(self) -> admin.ModelCatalogue:
        return self._ask("GET", "/admin/v1/catalogue", admin.ModelCatalogue)

    def fetch_model(self, model: str) -> admin.ModelJob:
        """Begin to fetch a model of the catalogue. Raises RemoteError where that is not allowed."""
        return self._told("/admin/v1/models/fetch", {"model": model}, admin.ModelJob)

    def fetch_pack(self, pack: str) -> admin.ModelJob:
        return self._told("/admin/v1/models/fetch", {"pack": pack}, admin.ModelJob)

    def verify_model(self, model: str) -> admin.ModelJob:
        """Begin to hash a model's files."""
        return self._ask("POST", f"{_of(model)}/verify", admin.ModelJob)

    def model_jobs(self) -> tuple[admin.ModelJob, ...]:
        return self._ask("GET", "/admin/v1/jobs", admin.ModelJobList).data

    def model_job(self, id: str) -> admin.ModelJob:
        return self._ask("GET", f"/admin/v1/jobs/{quote(id, safe='')}", admin.ModelJob)

    def cancel_model_job(self, id: str) -> admin.ModelJob:
        return self._ask("POST", f"/admin/v1/jobs/{quote(id, safe='')}/cancel", admin.ModelJob)

    def active_requests(self) -> tuple[admin.ActiveRequest, ...]:
        return self._ask("GET", "/admin/v1/requests", admin.ActiveRequestList).data

    def cancel_request(self, id: str) -> int:
        """How many were ended. Raises RemoteError when there is none of that id."""
        path = f"/admin/v1/requests/{quote(id, safe='')}/cancel"
        return self._ask("POST", path, admin.CancelledRequests).cancelled

    # Keys

    def whoami(self) -> admin.Whoami:
        return self._ask("GET", "/admin/v1/whoami", admin.Whoami)

    def keys(self) -> tuple[admin.KeyStatus, ...]:
        return self._ask("GET", "/admin/v1/keys", admin.KeyList).data

    def create_key(self, new: admin.NewKey) -> admin.IssuedKey:
        return self._ask("POST", "/admin/v1/keys", admin.IssuedKey, new)

    def change_key(self, key: str, change: admin.KeyChange) -> admin.KeyStatus:
        """By its id or name."""
        return self._ask("POST", _key(key), admin.KeyStatus, change)

    def rotate_key(self, key: str, *, overlap: float = 0.0) -> admin.IssuedKey:
        """A new secret; the old one ends at once, or after `overlap` seconds."""
        rotation = admin.KeyRotation(overlap=overlap)
        return self._ask("POST", f"{_key(key)}/rotate", admin.IssuedKey, rotation)

    def revoke_key(self, key: str) -> admin.KeyStatus:
        """For good; what runs with it ends."""
        return self._ask("POST", f"{_key(key)}/revoke", admin.KeyStatus)

    # Over time

    def history(self, seconds: float = 600.0) -> admin.History:
        """Samples of the last so many seconds, up to a day."""
        return self._ask("GET", f"/admin/v1/history?seconds={seconds:g}", admin.History)

    def logs(
        self, *, after: int = -1, limit: int = 200, wait: float = 0.0, level: str = "debug"
    ) -> admin.LogPage:
        """The newest lines of the server's log, or those behind the number `after`."""
        query = {"after": str(after), "limit": str(limit), "wait": str(wait), "level": level}
        return self._ask("GET", f"/admin/v1/logs?{httpx.QueryParams(query)}", admin.LogPage)

    # Backups

    def backups(self) -> admin.BackupList:
        return self._ask("GET", "/admin/v1/backups", admin.BackupList)

    def create_backup(self, *, models: bool = False) -> admin.BackupStatus:
        """Returns when it is whole; raises RemoteError while another is being made."""
        return self._ask("POST", "/admin/v1/backups", admin.BackupStatus, admin.BackupOrder(models=models))

    def doctor(self) -> tuple[admin.Finding, ...]:
        """What the doctor finds on the server's machine; takes a second or two."""
        return self._ask("GET", "/admin/v1/doctor", admin.DoctorReport).data

    # Settings

    def settings(self) -> configuration.SettingList:
        return self._ask("GET", "/admin/v1/config/settings", configuration.SettingList)

    def config(self) -> configuration.ConfigStatus:
        return self._ask("GET", "/admin/v1/config", configuration.ConfigStatus)

    def config_text(self) -> configuration.ConfigText:
        return self._ask("GET", "/admin/v1/config/text", configuration.ConfigText)

    def config_versions(self) -> tuple[configuration.ConfigVersion, ...]:
        """The latest, newest first."""
        return self._ask("GET", "/admin/v1/config/history", configuration.ConfigVersionList).data

    def check_config(self, new: configuration.NewConfig) -> configuration.CheckedConfig:
        """What it would change. Raises RemoteError that says what is wrong with it."""
        return self._ask("POST", "/admin/v1/config/check", configuration.CheckedConfig, new)

    def take_config(self, new: configuration.NewConfig) -> configuration.TakenConfig:
        return self._ask("PUT", "/admin/v1/config", configuration.TakenConfig, new)

    def roll_back_config(self, version: int) -> configuration.TakenConfig:
        back = configuration.Rollback(version=version)
        return self._ask("POST", "/admin/v1/config/rollback", configuration.TakenConfig, back)

    # The audit log

    def audit_lines(self, *, after: int = -1, wait: float = 0.0, **query: Any) -> audit.AuditPage:
        """Lines: the newest `limit`, or those behind the number `after`, for which `wait` seconds are spent.
        Also `before`, `user`, `model`, `trace`, `route`, `status`, `sensitive`.
        """
        query |= {"after": after, "wait": wait}
        given = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in query.items()
        }
        return self._ask("GET", f"/admin/v1/audit?{httpx.QueryParams(given)}", audit.AuditPage)

    def audit_status(self) -> audit.AuditStatus:
        return self._ask("GET", "/admin/v1/audit/status", audit.AuditStatus)

    def audit_checkpoint(self) -> audit.AuditCheckpoint:
        """The log so far in one number, to be kept elsewhere."""
        return self._ask("GET", "/admin/v1/audit/checkpoint", audit.AuditCheckpoint)

    def verify_audit(self, checkpoints: Sequence[audit.AuditCheckpoint] = ()) -> audit.AuditReport:
        """Check the whole log for changes; takes a while for a long one."""
        check = audit.AuditCheck(checkpoints=tuple(checkpoints))
        return self._ask("POST", "/admin/v1/audit/verify", audit.AuditReport, check)

    # How

    def _ask(self, method: str, path: str, kind: type[Record], body: msgspec.Struct | None = None) -> Record:
        sent = None if body is None else msgspec.to_builtins(body)
        return msgspec.json.decode(self._request(method, path, sent).content, type=kind)

    def _told(self, path: str, body: dict[str, Any], kind: type[Record]) -> Record:
        return msgspec.json.decode(self._request("POST", path, body).content, type=kind)

    def _get(self, path: str) -> Any:
        return self._request("GET", path).json()

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise self._error(response)
        return response

    def _error(self, response: httpx.Response) -> HearthError:
        try:
            told = response.json()["error"]
            return RemoteError(str(told["message"]), code=str(told["code"]), param=told["param"])
        except (ValueError, KeyError, TypeError):
            return InternalError(f"{self.url} answered {response.status_code} without a reason")

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"no Hearth answers at {self.url} ({error}); start one with `hearth serve`")


def trust(authority: str | None = None) -> ssl.SSLContext | bool:
    """What to check a server's certificate with; `$HEARTH_CA` names the file where `authority` does not.

    Raises ConfigError for a file that cannot be read.
    """
    authority = authority or os.environ.get("HEARTH_CA")
    if not authority:
        return True
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(f"cannot read certificates of {authority}: {error.strerror or error}") from error


def _of(model: str) -> str:
    return f"/admin/v1/models/{quote(model, safe='')}"


def _key(key: str) -> str:
    return f"/admin/v1/keys/{quote(key, safe='')}"
