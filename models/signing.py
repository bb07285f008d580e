"""Ed25519 signatures of tables: who vouches for an executable's or a pack's list of hashes.

A verifying key is written `ed25519:` and the base64 of its 32 bytes; the file of a signing key holds the same
with `ed25519-secret:`. A signature is 96 bytes: the verifying key, then RFC 8032's signature of label +
message, where the label says what is signed, so that one kind of table can never pass for another. Knows
neither tables nor which keys are trusted (`models.trust`).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from models.disk import sync_directory
from models.errors import SigningKeyError, UntrustedSignature

KEY_BYTES, SIGNATURE_BYTES = 32, 96
PUBLIC, SECRET = "ed25519:", "ed25519-secret:"
Label = Literal["hearth executable 1\n", "hearth pack 1\n"]

KeyText = Annotated[str, Meta(pattern=r"\Aed25519:[A-Za-z0-9+/]{43}=\Z")]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_SUFFIX = ".key"


class SigningKey:
    """A secret key; `verifying_key` is what others need to check its signatures."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.verifying_key = PUBLIC + base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, label: Label, message: bytes) -> bytes:
        """The 96 bytes that `signer_of` takes; the same message always gives the same."""
        return self._key.public_key().public_bytes_raw() + self._key.sign(label.encode() + message)

    @property
    def secret(self) -> str:
        return SECRET + base64.b64encode(self._key.private_bytes_raw()).decode()


def signer_of(label: Label, message: bytes, signature: bytes) -> str:
    """The verifying key that made the signature. Raises UntrustedSignature when it does not fit."""
    if len(signature) != SIGNATURE_BYTES:
        raise UntrustedSignature(f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    key = signature[:KEY_BYTES]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature[KEY_BYTES:], label.encode() + message)
    except (InvalidSignature, ValueError) as error:
        raise UntrustedSignature(
            "the signature does not fit: the table was changed after it was signed"
        ) from error
    return PUBLIC + base64.b64encode(key).decode()


class KeyRing:
    """The signing keys of one home: `<root>/<name>.key`, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self._root.glob(f"*{_SUFFIX}") if _NAME.match(path.stem)))

    def create(self, name: str) -> SigningKey:
        """Raises SigningKeyError for a bad name or one that is taken: a lost key cannot be made again."""
        path = self._path(name)
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = SigningKey(os.urandom(KEY_BYTES))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise SigningKeyError(f"there is a signing key {name!r} already; choose another name") from error
        with os.fdopen(descriptor, "w") as file:
            file.write(key.secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._root)
        return key

    def get(self, name: str) -> SigningKey:
        """Raises SigningKeyError."""
        path = self._path(name)
        if not path.is_file():
            raise SigningKeyError(
                f"there is no signing key {name!r}; make it with: hearth signing-key create {name}"
            )
        return read_signing_key(path)

    def get_or_create(self, name: str) -> SigningKey:
        return self.get(name) if name in self.names() else self.create(name)

    def _path(self, name: str) -> Path:
        if not _NAME.match(name):
            raise SigningKeyError(f"a signing key's name is made of a-z, 0-9, '.', '_' and '-'; got {name!r}")
        return self._root / f"{name}{_SUFFIX}"


def read_signing_key(path: Path) -> SigningKey:
    """Raises SigningKeyError for a file that is none, or that others may read."""
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(200).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"the signing key {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise SigningKeyError(f"the signing key {path} can be read by others; run: chmod 600 {path}")
    try:
        secret = base64.b64decode(text.removeprefix(SECRET), validate=True)
        if not text.startswith(SECRET) or len(secret) != KEY_BYTES:
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise SigningKeyError(f"{path} holds no signing key of Hearth") from error
    return SigningKey(secret)
