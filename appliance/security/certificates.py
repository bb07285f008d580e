"""Client certificates as credentials: whose they are, by fingerprint or subject.

The TLS layer has checked already who vouches for them; here they only get their name and role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from cryptography.x509 import load_der_x509_certificate

from appliance.config.access import Certificate
from appliance.errors import ConfigError, NotAuthenticated
from appliance.principal import Principal
from appliance.security.admitted import Admitted
from appliance.security.allowance import grant_of


class Certificates:
    """Raises ConfigError for an entry that names no certificate, or a subject that everybody has."""

    def __init__(self, known: Sequence[Certificate]) -> None:
        for each in known:
            if bool(each.fingerprint) == bool(each.subject):
                raise ConfigError(
                    f"access.certificates {each.name!r} needs either a fingerprint or a subject"
                )
        self._known = known

    def knows(self, principal: Principal) -> bool:
        return any(principal.id == f"cert:{each.name}" for each in self._known)

    def authenticate(self, der: bytes) -> Admitted:
        """`der`: the certificate that the TLS handshake has proven. Raises NotAuthenticated."""
        fingerprint = hashlib.sha256(der).hexdigest()
        try:
            certificate = load_der_x509_certificate(der)
            subject = certificate.subject.rfc4514_string()
            expires_at = certificate.not_valid_after_utc.timestamp()
        except ValueError as error:
            raise NotAuthenticated("the client's certificate cannot be read") from error
        for each in self._known:
            if _is(each, fingerprint, subject):
                return Admitted(
                    Principal(
                        f"cert:{each.name}",
                        f"cert:{each.name}",
                        f"cert:{fingerprint}",
                        grant_of(each.role, each.allowance),
                    ),
                    expires_at,
                )
        raise NotAuthenticated("the client's certificate is none of those that are known here")


def _is(known: Certificate, fingerprint: str, subject: str) -> bool:
    if known.fingerprint:
        return known.fingerprint.replace(":", "").lower() == fingerprint
    return fnmatchcase(subject, known.subject)
