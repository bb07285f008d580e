"""Which platforms and models there are, and which of them a name stands for. Frozen; a reload makes a new
one.

The machine itself is the platform `local`. A model's `id` is `platform/name`; its public name is unique over
all platforms and aliases. Decides nothing: which of the eligible models answers is `policy`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from appliance.config import routing as settings
from appliance.config.routing import Continuation, Role, Routing
from appliance.errors import ConfigError, InvalidValue, ModelNotFound
from appliance.routing.endpoint import Endpoint, parse_endpoint
from appliance.routing.secret import Secret, read_key

LOCAL = "local"
AUTO = "auto"  # every model of the request's role; the policy chooses
_PREFIX_TYPES = frozenset(["vllm", "llama-server", "hearth"])


class Instance(Struct, frozen=True, kw_only=True):
    endpoint: Endpoint
    weight: float = 1.0


class Platform(Struct, frozen=True, kw_only=True):
    """How to reach a service. The key prints as its source only."""

    name: str
    type: str
    key: Secret | None
    ca_file: str
    proxy: Endpoint | None
    stream_usage: bool
    connect_seconds: float
    first_byte_seconds: float
    between_bytes_seconds: float
    health_seconds: float
    discover: bool
    discover_only: tuple[str, ...]
    discover_limit: int
    endpoint: Endpoint


class Model(Struct, frozen=True, kw_only=True):
    """A model that may answer. Prices are per million tokens, 0 for local models."""

    platform: str
    name: str
    public_name: str
    role: Role = "chat"
    context_length: int = 0  # tokens; 0: not known
    capabilities: frozenset[str] = frozenset()
    price_in: float = 0.0
    price_out: float = 0.0
    quality: int = 50
    concurrency: int = 16
    queue: int = 64
    queue_seconds: float = 10.0
    instances: tuple[Instance, ...] = ()
    continuation: Continuation = "none"
    is_discovered: bool = False

    @property
    def id(self) -> str:
        return f"{self.platform}/{self.name}"

    @property
    def is_local(self) -> bool:
        return self.platform == LOCAL

    def price(self, prompt_tokens: int, answer_tokens: int) -> float:
        return (prompt_tokens * self.price_in + answer_tokens * self.price_out) / 1_000_000


class Registry:
    """Raises ConfigError when two models or aliases share a public name, or an alias stands for nothing."""

    def __init__(
        self,
        platforms: Iterable[Platform],
        models: Iterable[Model],
        aliases: Mapping[str, Sequence[str]],
    ) -> None:
        self.platforms = {platform.name: platform for platform in platforms}
        self.models = tuple(models)
        self.aliases = {name: tuple(targets) for name, targets in aliases.items()}
        self._by_id = {model.id: model for model in self.models}
        self._by_name: dict[str, Model] = {}
        for model in self.models:
            other = self._by_name.setdefault(model.public_name, model)
            if other is not model:
                raise ConfigError(
                    f"the models {other.id} and {model.id} both have the public name {model.public_name!r}; "
                    f"give one of them another public_name, and an alias if clients are to have either"
                )
        for name, targets in self.aliases.items():
            self._check_alias(name, targets)

    def _check_alias(self, name: str, targets: Sequence[str]) -> None:
        if name in self._by_name:
            raise ConfigError(
                f"aliases.{name}: {self._by_name[name].id} already has this name; give it another public_name"
            )
        for target in targets:
            is_later = any(platform.discover for platform in self.platforms.values())
            if not _is_pattern(target) and not is_later and not self.matching(target):
                raise ConfigError(f"aliases.{name}: there is no model {target!r}; there are: {self._names()}")

    # Looking up

    def __getitem__(self, id: str) -> Model:
        return self._by_id[id]

    def names(self, role: Role | None = None) -> tuple[str, ...]:
        """Every public name and plain alias, for the list of models."""
        models = tuple(m.public_name for m in self.models if role is None or m.role == role)
        return models + tuple(alias for alias in self.aliases if not _is_pattern(alias))

    def matching(self, reference: str) -> tuple[Model, ...]:
        """The models that a reference names: a public name, an id `platform/name`, or a pattern of either."""
        if (model := self._by_name.get(reference)) is not None:
            return (model,)
        if (model := self._by_id.get(reference)) is not None:
            return (model,)
        if not _is_pattern(reference):
            return ()
        return tuple(
            m for m in self.models if fnmatchcase(m.public_name, reference) or fnmatchcase(m.id, reference)
        )

    def of(self, references: Iterable[str]) -> tuple[Model, ...]:
        """The models of several references, each once, in the order first named."""
        found = {model.id: model for reference in references for model in self.matching(reference)}
        return tuple(found.values())

    def resolve(self, name: str, role: Role) -> tuple[Model, ...]:
        """The models of `role` that a client's `name` stands for.

        An exact alias, a public name, an id, an alias that is a pattern, then `auto`. Raises ModelNotFound,
        and InvalidValue for a model of another role.
        """
        found: tuple[Model, ...] = ()
        if name in self.aliases:
            found = self.of(self.aliases[name])
        elif name in self._by_name or name in self._by_id:
            found = self.matching(name)
        elif (pattern := next((a for a in self.aliases if fnmatchcase(name, a)), None)) is not None:
            found = self.of(self.aliases[pattern])
        elif name == AUTO:
            found = self.models
        fitting = tuple(model for model in found if model.role == role)
        if found and not fitting:
            raise InvalidValue(
                f"{name} is a model for {found[0].role}, not for {role}; for {role} there is: "
                f"{self._names(role)}",
                param="model",
            )
        if not fitting:
            raise ModelNotFound(f"there is no model {name!r} here; there are: {self._names()}", param="model")
        return fitting

    def is_by_name(self, name: str) -> bool:
        """Whether `name` asks for one certain model rather than for a choice."""
        return name not in self.aliases and (name in self._by_name or name in self._by_id)

    def with_discovered(self, platform: str, names: Iterable[str]) -> Registry:
        """The same registry with `platform`'s discovered models replaced by those of `names` it allows.

        A discovered model's public name is its id, so it can never take a name that means something else.
        """
        owner = self.platforms[platform]
        configured = {m.name for m in self.models if m.platform == platform and not m.is_discovered}
        fresh = [
            Model(
                platform=platform,
                name=name,
                public_name=f"{platform}/{name}",
                role="embed" if "embed" in name.lower() else "rerank" if "rerank" in name.lower() else "chat",
                quality=0,
                instances=(Instance(endpoint=owner.endpoint),),
                continuation=_continuation("auto", owner.type),
                is_discovered=True,
            )
            for name in dict.fromkeys(names)
            if name not in configured and any(fnmatchcase(name, p) for p in owner.discover_only)
        ][: owner.discover_limit]
        kept = [m for m in self.models if not (m.platform == platform and m.is_discovered)]
        return Registry(self.platforms.values(), [*kept, *fresh], self.aliases)

    def _names(self, role: Role | None = None) -> str:
        names = self.names(role)
        return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"


def build_registry(routing: Routing, local: Iterable[Model], environment: Mapping[str, str]) -> Registry:
    """The registry that the settings describe. In mode `offline` it holds the local models only, and no key
    is read. Raises ConfigError.
    """
    platforms: list[Platform] = []
    models = list(local)
    if routing.mode == "hybrid":
        for each in routing.platforms:
            if each.name == LOCAL or any(each.name == platform.name for platform in platforms):
                raise ConfigError(f"platforms: the name {each.name!r} is taken; every platform needs its own")
            platforms.append(_platform(each, environment))
            models.extend(_model(each, model, platforms[-1]) for model in each.models)
    elif routing.aliases:  # what they stand for may be online; then they stand for nothing here
        here = Registry((), models, {})
        aliases = {n: t for n, t in routing.aliases.items() if here.of(t)}
        return Registry((), models, aliases)
    return Registry(platforms, models, routing.aliases)


def _platform(given: settings.Platform, environment: Mapping[str, str]) -> Platform:
    where = f"platforms.{given.name}"
    if given.key_env and given.key_file:
        raise ConfigError(f"{where}: key_env and key_file are both set; one of them")
    endpoint = parse_endpoint(given.api_base_url, f"{where}.api_base_url")
    key = read_key(given.key_env, given.key_file, environment)
    addresses = [endpoint] + [
        parse_endpoint(instance.api_base_url, f"{where}.models.{model.name}.instances")
        for model in given.models
        for instance in model.instances
    ]
    for each in addresses:
        if key is not None and each.scheme == "http" and not each.is_loopback and not given.allow_plain_key:
            raise ConfigError(
                f"{where}: the key would cross the network unencrypted to {each.authority}; use https, "
                f"or set allow_plain_key if you mean that"
            )
    return Platform(
        name=given.name,
        type=given.type,
        key=key,
        ca_file=given.ca_file,
        proxy=parse_endpoint(given.proxy, f"{where}.proxy") if given.proxy else None,
        stream_usage=given.stream_usage,
        connect_seconds=given.connect_seconds,
        first_byte_seconds=given.first_byte_seconds,
        between_bytes_seconds=given.between_bytes_seconds,
        health_seconds=given.health_seconds,
        discover=given.discover,
        discover_only=given.discover_only,
        discover_limit=given.discover_limit,
        endpoint=endpoint,
    )


def _model(owner: settings.Platform, given: settings.Model, platform: Platform) -> Model:
    instances = tuple(
        Instance(endpoint=parse_endpoint(each.api_base_url, f"{given.name}.instances"), weight=each.weight)
        for each in given.instances
    )
    continuation = _continuation(given.continuation, owner.type)
    prefill = frozenset(["prefill"] if continuation != "none" else [])
    return Model(
        platform=owner.name,
        name=given.name,
        public_name=given.public_name or given.name,
        role=given.role,
        context_length=given.context_length,
        capabilities=frozenset(given.capabilities) | prefill,
        price_in=given.price_in,
        price_out=given.price_out,
        quality=given.quality,
        concurrency=given.concurrency,
        queue=given.queue,
        queue_seconds=given.queue_seconds,
        instances=instances or (Instance(endpoint=platform.endpoint),),
        continuation=continuation,
    )


def _continuation(given: Continuation, type: str) -> Continuation:
    if given == "auto":
        return "prefix" if type in _PREFIX_TYPES else "none"
    return given


def _is_pattern(reference: str) -> bool:
    return any(character in reference for character in "*?[")
