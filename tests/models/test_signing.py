"""Signatures fit one message under one label; keys stay secret; trust is given once and never to older
versions.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ManifestError, SigningKeyError, UntrustedSignature, VersionTooLow
from models.signing import KeyRing, SigningKey, read_signing_key, signer_of
from models.trust import Trust, parse_version

LABEL = "hearth pack 1\n"
KEY = SigningKey(bytes(32))
OTHER = SigningKey(bytes(range(32)))


def test_a_signature_names_its_signer_and_is_the_same_each_time() -> None:
    signature = KEY.sign(LABEL, b"table")
    assert signature == KEY.sign(LABEL, b"table")
    assert signer_of(LABEL, b"table", signature) == KEY.verifying_key
    assert KEY.verifying_key.startswith("ed25519:")


@pytest.mark.parametrize("message", [b"", b"tablE", b"table\0"])
def test_another_message_does_not_fit(message: bytes) -> None:
    with pytest.raises(UntrustedSignature):
        signer_of(LABEL, message, KEY.sign(LABEL, b"table"))


def test_what_was_signed_as_a_pack_is_no_executable() -> None:
    with pytest.raises(UntrustedSignature):
        signer_of("hearth executable 1\n", b"table", KEY.sign(LABEL, b"table"))


def test_every_changed_byte_of_a_signature_is_noticed() -> None:
    signature = KEY.sign(LABEL, b"table")
    for at in range(len(signature)):
        changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        with pytest.raises(UntrustedSignature):
            signer_of(LABEL, b"table", changed)


def test_a_key_is_kept_for_its_owner_only_and_never_replaced(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    made = keys.create("release")
    path = tmp_path / "keys" / "release.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.get("release").verifying_key == made.verifying_key
    assert keys.get_or_create("release").verifying_key == made.verifying_key
    assert keys.names() == ("release",)
    with pytest.raises(SigningKeyError, match="already"):
        keys.create("release")
    path.chmod(0o644)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        keys.get("release")


@pytest.mark.parametrize("name", ["../up", "", "A", "a/b", ".hidden"])
def test_a_key_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SigningKeyError):
        KeyRing(tmp_path).create(name)


@pytest.mark.parametrize("text", ["", "ed25519-secret:AAAA", "ed25519:" + "A" * 43 + "=", "\xff"])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.key"
    path.touch(0o600)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SigningKeyError, match=r"a\.key"):
        read_signing_key(path)


def test_the_first_key_is_pinned_and_another_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    assert Trust(path).check("manuals", KEY.verifying_key, "1.2") is True
    Trust(path).pin("manuals", KEY.verifying_key, "1.2")
    assert Trust(path).check("manuals", KEY.verifying_key, "1.2") is False
    with pytest.raises(UntrustedSignature, match="forget manuals"):
        Trust(path).pin("manuals", OTHER.verifying_key, "9")
    assert Trust(path).check("other", OTHER.verifying_key, "1") is True


@pytest.mark.parametrize(
    ("version", "is_lower"), [("1.9", True), ("1.10", False), ("1.10.0.1", False), ("2", False)]
)
def test_a_lower_version_is_refused(tmp_path: Path, version: str, is_lower: bool) -> None:
    trust = Trust(tmp_path / "trust.json")
    trust.pin("manuals", KEY.verifying_key, "1.10")
    if is_lower:
        with pytest.raises(VersionTooLow, match=r"1\.10"):
            trust.check("manuals", KEY.verifying_key, version)
    else:
        trust.pin("manuals", KEY.verifying_key, version)
        assert trust.pins()["manuals"].version == version


def test_a_key_can_be_forgotten(tmp_path: Path) -> None:
    trust = Trust(tmp_path / "trust.json")
    trust.pin("manuals", KEY.verifying_key, "3")
    assert trust.forget("manuals") is True
    assert trust.forget("manuals") is False
    trust.pin("manuals", OTHER.verifying_key, "1")


def test_a_damaged_record_of_trust_never_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text('{"manuals": {"key": "x"}}')
    with pytest.raises(ManifestError, match=r"trust\.json"):
        Trust(tmp_path / "trust.json")


def test_versions_are_compared_as_numbers() -> None:
    assert parse_version("1.10") > parse_version("1.9.9.9")
    assert parse_version("1") == parse_version("1.0.0.0")
