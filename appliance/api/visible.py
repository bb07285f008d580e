"""The models of this machine as one principal sees them: those outside of its key's scope do not exist."""

from __future__ import annotations

from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.config.routing import Role
from appliance.errors import ModelNotFound
from appliance.principal import Principal
from appliance.runtime import Runtime, ServedModel
from appliance.workers.handles import GeneratorHandle


class VisibleModels:
    def __init__(self, runtime: Runtime, principal: Principal) -> None:
        self._runtime, self._principal = runtime, principal

    def all(self) -> list[ServedModel]:
        return [each for each in self._runtime.all_served() if self.has(each.manifest.name)]

    def has(self, name: str) -> bool:
        return self._principal.may_use_model(name)

    def served(self, name: str) -> ServedModel:
        """Raises ModelNotFound."""
        self._require(name)
        return self._runtime.served(name)

    def generator(self, name: str) -> GeneratorHandle:
        """Raises ModelNotFound, InvalidValue."""
        self._require(name)
        return self._runtime.generator(name)

    def check(self, name: str, role: Role) -> None:
        """Whether the router knows it, by whatever name. Raises ModelNotFound, InvalidValue."""
        if self._principal.grant.models is None:
            self._runtime.router.check_model(name, role)

    def _require(self, name: str) -> None:
        if not self.has(name):
            names = ", ".join(each.manifest.name for each in self.all())
            raise ModelNotFound(
                f"there is no model {name!r} here; there are: {names or 'none'}", param="model"
            )


def models_of(http: Request) -> VisibleModels:
    return VisibleModels(runtime_of(http), principal_of(http))
