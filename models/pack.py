"""The packs Hearth knows: named sets of models, read from `<pack>/pack.toml` beside this module.

Together they are the catalogue that `pull` looks names up in. Knows nothing of what is installed.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated

import msgspec
from msgspec import Meta

from models.errors import ManifestError, UnknownModel
from models.manifest import Manifest, ModelName, Role, Text, decode_toml

PACKS = ("tiny", "starter", "extra")


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fallbacks` names, per role, the model that stands in when the pack's own cannot be had."""

    name: ModelName
    models: Annotated[tuple[Manifest, ...], Meta(min_length=1, max_length=64)]
    description: Text = ""
    fallbacks: dict[Role, ModelName] = {}

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"pack {self.name}: a model is listed twice: {', '.join(names)}")

    @property
    def bytes(self) -> int:
        """Bytes of all models together."""
        return sum(model.bytes for model in self.models)


def load_pack(name: str) -> Pack:
    """Raises UnknownModel for a pack nobody wrote, ManifestError for one that is malformed."""
    if name not in PACKS:
        raise UnknownModel(name, PACKS, "list of packs")
    path = f"{name}/pack.toml"
    return parse_pack((resources.files("models") / name / "pack.toml").read_bytes(), path)


def parse_pack(content: bytes, label: str) -> Pack:
    """A pack.toml's content; `label` names it in errors. Raises ManifestError."""
    return decode_toml(content, Pack, label)


class Catalogue:
    """Every model of the given packs, by name."""

    def __init__(self, packs: tuple[Pack, ...]) -> None:
        """Raises ManifestError when two packs give one name to two models, or a fallback does not exist."""
        self._models: dict[str, Manifest] = {}
        for pack in packs:
            for model in pack.models:
                if self._models.setdefault(model.name, model) != model:
                    raise ManifestError(
                        f"{pack.name}/pack.toml", f"models: {model.name} differs from another pack's"
                    )
        for pack in packs:
            for role, name in pack.fallbacks.items():
                if name not in self._models or self._models[name].role != role:
                    raise ManifestError(
                        f"{pack.name}/pack.toml", f"fallbacks.{role}: no {role} model {name!r} is known"
                    )

    def models(self) -> tuple[Manifest, ...]:
        return tuple(self._models.values())

    def get(self, name: str) -> Manifest:
        """Raises UnknownModel."""
        if name not in self._models:
            raise UnknownModel(name, tuple(self._models), "catalogue")
        return self._models[name]


@cache
def catalogue() -> Catalogue:
    """The catalogue of all packs Hearth carries."""
    return Catalogue(tuple(load_pack(name) for name in PACKS))
