"""The door of the application: who asks is settled here, before any path is looked at.

An ASGI layer that puts the request's `Principal` into the scope, or the error that says why there is none;
what a path does about it is `authorise`'s, which the router calls before every handler. It also counts: how
often an address and a credential ask, and what their answers take. While a request runs its credential is
held (`held`): the request ends when that does.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import PRINCIPAL_KEY, error_response
from appliance.api.held import Held
from appliance.api.operation import Operation
from appliance.api.trail import trail_in
from appliance.errors import Forbidden, NotAuthenticated
from appliance.principal import Principal, Rates
from appliance.runtime import Runtime
from appliance.security.admitted import Admitted
from appliance.security.rates import Left, RateLimited

CERTIFICATE_KEY = "hearth.certificate"  # in a scope: the client's certificate (DER), proven by the handshake
UNCOUNTED = frozenset(("/health", "/healthz", "/readyz"))  # what watches a server is not to use up a limit


def authorise(request: Request, operation: Operation) -> None:
    """Raises NotAuthenticated, Forbidden."""
    if operation.access == "public":
        return
    principal = principal_in(request.scope)
    if not principal.has_role(operation.access):
        raise Forbidden(
            f"{operation.method} {operation.path} is for the role {operation.access}; "
            f"{principal.name!r} has the role {principal.role}"
        )
    if not principal.may_call(operation.method, request.scope["path"]):
        raise Forbidden(f"{principal.name!r} may not call {operation.method} {request.scope['path'][:200]}")


def principal_in(scope: Scope) -> Principal:
    """Raises NotAuthenticated, also where nobody has settled it: without a principal nothing is answered."""
    found = scope.get(PRINCIPAL_KEY)
    if isinstance(found, Principal):
        return found
    raise found if isinstance(found, NotAuthenticated) else NotAuthenticated("nobody has said who asks")


class Gate:
    """Wraps the application; belongs inside whatever gives requests their ids."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._access = app, runtime.access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        subjects = []
        if scope["client"]:  # a request that this server makes of itself has none
            subjects.append((f"address:{scope['client'][0]}", self._access.settings.address))
        admitted = self._admitted(scope)
        if admitted is not None:
            principal = admitted.principal
            subjects.append((principal.credential or f"owner:{principal.id}", principal.grant.rates))
        counted = [(subject, rates) for subject, rates in subjects if rates != NO_RATES]
        if not counted:
            await self._answer(admitted, scope, receive, send)
            return
        await self._counted(counted, admitted, scope, receive, send)

    def _admitted(self, scope: Scope) -> Admitted | None:
        """Who asks; None for nobody, with the reason in the scope. What is in it already is our own word."""
        if isinstance(known := scope.get(PRINCIPAL_KEY), Principal):
            return Admitted(known, self._access.keyring.expires_at(known.credential))
        try:
            admitted = self._access.authenticate(_secret(scope), scope.get(CERTIFICATE_KEY))
        except NotAuthenticated as error:
            scope[PRINCIPAL_KEY] = error
            return None
        scope[PRINCIPAL_KEY] = admitted.principal
        return admitted

    async def _counted(
        self,
        subjects: list[tuple[str, Rates]],
        admitted: Admitted | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        rates, begun = self._access.rates, []
        subject, limits = subjects[-1]  # the headers tell of the credential's limits, where it has any

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                for kind, left in rates.left(subject, limits).items():
                    _tell(headers, kind, left)
                message["headers"] = headers.raw
            await send(message)

        try:
            for each, its in subjects:
                rates.begin(each, its)
                begun.append(each)
            await self._answer(admitted, scope, receive, telling_send)
        except RateLimited as error:
            if len(begun) == len(subjects):
                raise
            await error_response(error, scope["path"])(scope, receive, telling_send)
        finally:
            tokens = trail_in(scope).tokens
            for each in begun:
                rates.end(each, tokens.prompt + tokens.completion)

    async def _answer(self, admitted: Admitted | None, scope: Scope, receive: Receive, send: Send) -> None:
        if admitted is None or not admitted.principal.credential:
            await self._app(scope, receive, send)
            return
        held = Held(receive, send, scope["path"])
        with self._access.running.hold(admitted.principal.credential, held.end, admitted.expires_at):
            await held.run(self._app, scope)


NO_RATES = Rates()


def _secret(scope: Scope) -> str | None:
    """What the client shows: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it.

    Raises NotAuthenticated for two that differ, or a header given twice: which of them counts is no guess.
    """
    shown = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise NotAuthenticated("the only Authorization that this server knows is `Bearer KEY`")
            shown.add(token.strip())
        elif name == b"x-api-key":
            shown.add(value.decode("latin-1").strip())
    if len(shown) > 1:
        raise NotAuthenticated("the request shows several different keys; send one")
    return shown.pop() if shown else None


def _tell(headers: MutableHeaders, kind: str, left: Left) -> None:
    headers[f"x-ratelimit-limit-{kind}"] = str(left.limit)
    headers[f"x-ratelimit-remaining-{kind}"] = str(left.remaining)
    headers[f"x-ratelimit-reset-{kind}"] = f"{left.reset:.3f}s"
