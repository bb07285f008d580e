"""The bill of materials and the licences name everything inside, the same way every time."""

import json
from pathlib import Path

from contents import Component
from sbom import bill_of_materials, licences

from models.pack import load_pack

MODELS = list(load_pack("tiny").models)
LIBRARY = Component("libz", "1.3", "pkg:generic/libz@1.3", "Zlib")


def test_every_package_and_model_is_in_the_bill() -> None:
    bill = json.loads(bill_of_materials("1.0", "ab" * 32, [LIBRARY], MODELS))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert [part["name"] for part in bill["components"]] == ["libz", *(model.name for model in MODELS)]
    assert bill["components"][0]["purl"] == "pkg:generic/libz@1.3"
    assert bill["components"][1]["hashes"][0]["content"] == MODELS[0].weights.sha256
    assert bill["dependencies"][0]["dependsOn"] == [part["bom-ref"] for part in bill["components"]]


def test_a_library_that_was_changed_says_how() -> None:
    llama = Component("llama-cpp-python", "0.3.36", "pkg:pypi/llama-cpp-python@0.3.36", "MIT")
    changed, plain = json.loads(bill_of_materials("1.0", "ab" * 32, [llama, LIBRARY], []))["components"]
    texts = [patch["diff"]["text"]["content"] for patch in changed["pedigree"]["patches"]]
    assert any("hearth_replace" in text for text in texts)
    assert "pedigree" not in plain


def test_the_serial_number_follows_the_content() -> None:
    first = bill_of_materials("1.0", "ab" * 32, [LIBRARY], MODELS)
    assert bill_of_materials("1.0", "ab" * 32, [LIBRARY], MODELS) == first
    other = bill_of_materials("1.0", "cd" * 32, [LIBRARY], MODELS)
    assert json.loads(other)["serialNumber"] != json.loads(first)["serialNumber"]


def test_licence_texts_are_quoted_once_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("Do as you like.\n")
    component = Component("libz", "1.3", "pkg:generic/libz@1.3", "Zlib", (tmp_path / "a", tmp_path / "b"))
    text = licences([component], MODELS)
    assert "libz 1.3: Zlib" in text
    assert text.count("Do as you like.") == 1
    assert all(f"Model {model.name}: {model.licence}" in text for model in MODELS)
