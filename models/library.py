"""Where a server's models come from: the store, and what the executable carries, as one source.

A model that the executable carries is used from there, so nothing of it is ever unpacked. Another model
installed under the same name goes first: somebody chose it.
"""

from __future__ import annotations

from typing import Protocol

from models.embedded import Embedded
from models.errors import UnknownModel
from models.region import Extent
from models.store import Installed, Store


class ModelSource(Protocol):
    """Something that has models."""

    def list(self) -> list[Installed]: ...
    def get(self, name: str) -> Installed: ...
    def extent(self, name: str, file: str) -> Extent: ...


class Library:
    """The union of a store and, if there is one, of what the executable carries."""

    def __init__(self, store: Store, embedded: Embedded | None = None) -> None:
        self.store = store
        self.embedded = embedded

    def list(self) -> list[Installed]:
        """Every model, by name. Raises ManifestError for a record of the store that cannot be read."""
        found = {} if self.embedded is None else {model.name: model for model in self.embedded.list()}
        for model in self.store.list():
            if model.name not in found or found[model.name].manifest.files != model.manifest.files:
                found[model.name] = model
        return [found[name] for name in sorted(found)]

    def get(self, name: str) -> Installed:
        """Raises UnknownModel, and ManifestError for a record that cannot be read."""
        models = {model.name: model for model in self.list()}
        if name not in models:
            raise UnknownModel(name, tuple(models), "store")
        return models[name]

    def extent(self, name: str, file: str) -> Extent:
        """The byte range an engine maps. Raises as `get`, and StoreError when the file is gone."""
        return self._source(name).extent(name, file)

    def carries(self, pack: str) -> bool:
        """Whether the executable was made to serve this pack."""
        return self.embedded is not None and self.embedded.pack == pack

    def _source(self, name: str) -> ModelSource:
        if self.embedded is not None and self.get(name) in self.embedded.list():
            return self.embedded
        return self.store
