"""Owns the two papers that lie beside the executable: the bill of materials and the licences.

The bill is CycloneDX 1.6 in JSON. It has no time stamp and a serial number made from its content, so the
same executable always has the same bill.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from contents import Component
from setup_layout import MASKED_CELLS

from models.manifest import Manifest

_NAMESPACE = uuid.UUID("6f3c1d2e-5f5e-4d0c-9a54-6d2f4c1b7a90")
_RULE = "=" * 100

# What is compiled otherwise than its makers released it: the files that say how.
_CHANGED_BY = {"llama-cpp-python": MASKED_CELLS}


def bill_of_materials(
    version: str, sha256: str, components: Iterable[Component], models: Iterable[Manifest]
) -> str:
    """The CycloneDX document of the executable with that hash."""
    parts = [_package(component) for component in components] + [_model(model) for model in models]
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "hearth",
                "name": "hearth",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
        },
        "components": parts,
        "dependencies": [{"ref": "hearth", "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}", **content}, indent=1) + "\n"


def licences(components: Iterable[Component], models: Iterable[Manifest]) -> str:
    """Every licence text, package by package, and what each model says of its own."""
    pages = []
    for component in components:
        texts = [path.read_text("utf-8", errors="replace").strip() for path in component.texts]
        title = f"{component.name} {component.version}: {component.licence}"
        pages.append("\n\n".join([f"{_RULE}\n{title}\n{_RULE}", *dict.fromkeys(texts)]))
    pages += [f"{_RULE}\nModel {model.name}: {model.licence}\n{_RULE}" for model in models]
    return "\n\n\n".join(pages) + "\n"


def _package(component: Component) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "licenses": [{"license": {"name": component.licence}}],
    }
    if changes := _CHANGED_BY.get(component.name):
        patches = [
            {"type": "unofficial", "diff": {"text": {"content": each.read_text()}}} for each in changes
        ]
        part["pedigree"] = {"patches": patches}
    return part


def _model(model: Manifest) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "licenses": [{"license": {"name": model.licence}}],
        "hashes": [{"alg": "SHA-256", "content": model.weights.sha256}],
    }
