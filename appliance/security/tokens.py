"""JSON Web Tokens (RFC 7519): whose they are, checked against the issuers that the settings name.

The only import of PyJWT. An issuer has one algorithm and a key of that algorithm's kind, so a token that
names another algorithm, `none` included, is refused before its signature is looked at. Knows files and
claims, no HTTP.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from appliance.config.access import Issuer
from appliance.errors import ConfigError, NotAuthenticated
from appliance.principal import ROLES, Grant, Principal, Role
from appliance.security.admitted import Admitted
from appliance.security.allowance import grant_of

LONGEST_TOKEN = 8192
LONGEST_OWNER = 128
MOST_KEY_BYTES = 64 * 1024
LEAST_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
LEAST_RSA_BITS = 2048
# What a token that somebody made up can raise on its way through JSON, base64 and dates.
BROKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class Tokens:
    """Reads the issuers' keys at once. Raises ConfigError naming the file that holds no fitting key."""

    def __init__(self, issuers: Sequence[Issuer], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._issuers: dict[str, list[tuple[Issuer, Any]]] = {}
        for issuer in issuers:
            self._issuers.setdefault(issuer.issuer, []).append((issuer, read_key(issuer)))

    def knows(self, principal: Principal) -> bool:
        """Whether its issuer is still believed."""
        return any(principal.id.startswith(f"jwt:{_short(issuer)}:") for issuer in self._issuers)

    def authenticate(self, token: str) -> Admitted:
        """Raises NotAuthenticated."""
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated(f"the token is longer than {LONGEST_TOKEN} characters")
        try:
            claimed = jwt.decode_complete(token, options={"verify_signature": False})
            candidates = self._issuers.get(str(claimed["payload"].get("iss")), [])
        except BROKEN as error:
            raise NotAuthenticated("this is no JSON Web Token that can be read") from error
        if "crit" in claimed["header"]:
            raise NotAuthenticated("the token has critical extensions, of which none are known here")
        for issuer, key in candidates:
            if issuer.algorithm == claimed["header"].get("alg"):
                return self._admitted(issuer, self._verified(token, issuer, key))
        raise NotAuthenticated("the token's issuer is not known here, or signs with another algorithm")

    def _verified(self, token: str, issuer: Issuer, key: Any) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[issuer.algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=issuer.clock_skew,
                options={"require": ["exp", "iss", "aud", issuer.owner_claim]},
            )
        except jwt.ExpiredSignatureError as error:
            raise NotAuthenticated("the token has expired", code="expired_api_key") from error
        except BROKEN as error:
            raise NotAuthenticated(f"the token was refused: {_words(error)}") from error
        return claims

    def _admitted(self, issuer: Issuer, claims: dict[str, Any]) -> Admitted:
        expires_at = int(claims["exp"])
        if expires_at > int(self._clock() + issuer.longest + issuer.clock_skew):
            raise NotAuthenticated(
                f"the token is good for longer than the {issuer.longest:.0f} seconds allowed here"
            )
        owner = claims[issuer.owner_claim]
        if not isinstance(owner, str) or not 0 < len(owner) <= LONGEST_OWNER:
            raise NotAuthenticated(f"the token's claim {issuer.owner_claim} names nobody")
        name = f"jwt:{owner}"
        principal = Principal(
            f"jwt:{_short(issuer.issuer)}:{owner}",
            name,
            f"jwt:{_short(issuer.issuer)}:{owner}",
            _grant(issuer, claims),
        )
        return Admitted(principal, expires_at + issuer.clock_skew)


def read_key(issuer: Issuer) -> Any:
    """The key in the form that PyJWT takes. Raises ConfigError."""
    place = f"access.issuers key_file {issuer.key_file}"
    try:
        with Path(issuer.key_file).expanduser().open("rb") as file:
            content = file.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{place} cannot be read: {error.strerror}") from error
    if issuer.algorithm == "HS256":
        secret = content.strip()
        if not LEAST_SECRET_BYTES <= len(secret) <= MOST_KEY_BYTES or secret.startswith(b"-----BEGIN"):
            raise ConfigError(
                f"{place} must hold a secret of {LEAST_SECRET_BYTES} bytes or more for HS256, and no PEM key"
            )
        return secret
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{place} holds no PEM public key") from error
    fits = {
        "EdDSA": isinstance(key, Ed25519PublicKey),
        "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        "RS256": isinstance(key, RSAPublicKey) and key.key_size >= LEAST_RSA_BITS,
    }
    if not fits[issuer.algorithm]:
        raise ConfigError(f"{place} holds no key that is good for {issuer.algorithm}")
    return key


def _grant(issuer: Issuer, claims: dict[str, Any]) -> Grant:
    """Raises NotAuthenticated when the token names no role, and the issuer has none for such."""
    said = claims.get(issuer.role_claim) if issuer.role_claim else None
    groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    roles = [issuer.roles[group] for group in groups if isinstance(group, str) and group in issuer.roles]
    role: Role | str = max(roles, key=ROLES.index) if roles else issuer.role
    if not role:
        raise NotAuthenticated(f"the token's claim {issuer.role_claim} names no role that is known here")
    return grant_of(role, issuer.allowance)  # type: ignore[arg-type]


def _short(issuer: str) -> str:
    """Two issuers' subjects of the same name are two owners."""
    return hashlib.sha256(issuer.encode()).hexdigest()[:12]


def _words(error: Exception) -> str:
    """PyJWT's words where they are its own; others may repeat the token."""
    return str(error)[:200] if isinstance(error, jwt.InvalidTokenError) else "it cannot be read"
