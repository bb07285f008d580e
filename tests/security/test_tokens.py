"""JSON Web Tokens: those of the issuers get in as what they say; nothing else does, however it is made."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from appliance.config.access import Allowance, Issuer
from appliance.errors import ConfigError, NotAuthenticated
from appliance.principal import Rates
from appliance.security.tokens import LONGEST_TOKEN, Tokens
from tests.security.authority import private_pem, public_pem

ISSUER, AUDIENCE = "https://id.example.org", "hearth"
ALGORITHMS = ("EdDSA", "ES256", "RS256", "HS256")
SECRET = b"s" * 32


class Signer:
    """An issuer's private side, and the settings that believe it."""

    def __init__(self, algorithm: str, directory: Path, **settings: Any) -> None:
        self.algorithm = algorithm
        makers = {
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
        }
        self.key: Any = SECRET if algorithm == "HS256" else makers[algorithm]()
        self.public = SECRET if algorithm == "HS256" else public_pem(self.key)
        file = directory / f"{algorithm}.pem"
        file.write_bytes(self.public)
        fields = {"roles": {"staff": "user", "it": "operator", "root": "admin"}} | settings
        self.issuer = Issuer(
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithm=algorithm,  # type: ignore[arg-type]
            key_file=str(file),
            **fields,
        )

    def token(self, *, key: Any = None, algorithm: str = "", headers: Any = None, **claims: Any) -> str:
        said = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "role": "staff",
            "exp": time.time() + 600,
        } | claims
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, key or self.key, algorithm or self.algorithm, headers=headers)


@pytest.fixture(params=ALGORITHMS)
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Signer:
    return Signer(request.param, tmp_path)


def refused(tokens: Tokens, token: str) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as found:
        tokens.authenticate(token)
    assert len(token) < 20 or token not in found.value.message
    return found.value


def test_a_token_gets_in_as_what_it_says(signer: Signer) -> None:
    tokens = Tokens([signer.issuer])
    expires_at = int(time.time()) + 600
    admitted = tokens.authenticate(signer.token(exp=expires_at))
    principal = admitted.principal
    assert principal.name == "jwt:ada"
    assert principal.id == principal.credential
    assert principal.id.startswith("jwt:")
    assert principal.id.endswith(":ada")
    assert principal.role == "user"
    assert admitted.expires_at == expires_at + 30
    assert tokens.knows(principal)
    assert not Tokens([]).knows(principal)


def test_the_highest_of_several_groups_counts(signer: Signer) -> None:
    tokens = Tokens([signer.issuer])
    assert tokens.authenticate(signer.token(role=["staff", "it", "other", 5])).principal.role == "operator"
    assert tokens.authenticate(signer.token(role="root")).principal.role == "admin"
    for odd in ("nobody", [], None, 5, {"a": "staff"}, [["staff"]]):
        assert "names no role" in refused(tokens, signer.token(role=odd)).message


def test_settings_bound_what_tokens_may(tmp_path: Path) -> None:
    allowance = Allowance(models=("tiny-*",), bases=(), tiers=("flex",), rates=Rates(concurrent=3))
    signer = Signer("EdDSA", tmp_path, role="reader", role_claim="", owner_claim="email", allowance=allowance)
    principal = Tokens([signer.issuer]).authenticate(signer.token(email="a@b", role="root")).principal
    assert principal.role == "reader"
    assert principal.name == "jwt:a@b"
    assert principal.grant.models == ("tiny-*",)
    assert principal.grant.bases == ()
    assert principal.grant.routes is None
    assert principal.grant.rates.concurrent == 3
    assert not principal.may_use_base("vs_1", "manuals")


def test_two_issuers_subjects_are_two_owners(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = Signer("EdDSA", tmp_path)
    second = Signer("ES256", tmp_path / "b")
    other = Issuer(**{**_fields(second.issuer), "issuer": "https://other"})
    tokens = Tokens([first.issuer, other])
    a = tokens.authenticate(first.token()).principal
    b = tokens.authenticate(second.token(iss="https://other")).principal
    assert a.name == b.name
    assert a.id != b.id


def test_one_issuer_may_have_two_algorithms(tmp_path: Path) -> None:
    first, second = Signer("EdDSA", tmp_path), Signer("RS256", tmp_path)
    tokens = Tokens([first.issuer, second.issuer])
    assert tokens.authenticate(first.token()).principal.name == "jwt:ada"
    assert tokens.authenticate(second.token()).principal.name == "jwt:ada"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": -60}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "refused"),
        ({"exp": [1]}, "refused"),
        ({"exp": 10**400}, "good for longer"),
        ({"exp": 10**6}, "good for longer"),
        ({"exp": 2**63}, "good for longer"),
        ({"nbf": 600}, "refused"),
        ({"iat": 600}, "refused"),
        ({"aud": "another"}, "refused"),
        ({"aud": None}, "refused"),
        ({"aud": ["x", "y"]}, "refused"),
        ({"iss": "https://evil"}, "issuer is not known"),
        ({"iss": None}, "issuer is not known"),
        ({"iss": [ISSUER]}, "cannot be read|not known|refused"),
        ({"sub": None}, "refused"),
        ({"sub": ""}, "names nobody"),
        ({"sub": "x" * 129}, "names nobody"),
        ({"sub": 5}, "refused|names nobody|cannot be read"),
        ({"sub": ["ada"]}, "refused|names nobody|cannot be read"),
    ],
)
def test_claims_that_do_not_fit_are_refused(tmp_path: Path, claims: dict[str, Any], words: str) -> None:
    """Moments are given in seconds from now, for the tests before this one may take long."""
    now = time.time()
    claims = {
        name: now + value if isinstance(value, int) and name != "sub" and value <= 10**6 else value
        for name, value in claims.items()
    }
    signer = Signer("HS256", tmp_path)
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "role": "staff", "exp": now + 600} | claims
    token = forged({"alg": "HS256", "typ": "JWT"}, {k: v for k, v in said.items() if v is not None}, SECRET)
    error = refused(Tokens([signer.issuer]), token)
    assert any(word in error.message for word in words.split("|")), error.message


def test_a_clock_that_differs_a_little_is_forgiven(signer: Signer) -> None:
    tokens = Tokens([signer.issuer])
    now = time.time()
    tokens.authenticate(signer.token(exp=now - 20, nbf=now + 20, iat=now + 20))
    assert refused(tokens, signer.token(exp=now - 40)).detail_code == "expired_api_key"


def test_no_token_chooses_its_algorithm(tmp_path: Path) -> None:
    """Every algorithm's issuer against tokens of every other, signed with all that an attacker can know."""
    for own in ALGORITHMS:
        signer = Signer(own, tmp_path)
        tokens = Tokens([signer.issuer])
        claims = jwt.decode(signer.token(), options={"verify_signature": False})
        for alg in ("none", "None", "NONE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "EdDSA"):
            if alg == own:
                continue
            for secret in (signer.public, signer.public.strip(), b"", b"secret", SECRET):
                if own == "HS256" and secret == SECRET and alg == "HS256":
                    continue
                refused(tokens, forged({"alg": alg, "typ": "JWT"}, claims, secret))
        unsigned = forged({"alg": own, "typ": "JWT"}, claims, b"").rpartition(".")[0] + "."
        refused(tokens, unsigned)


def test_the_public_key_is_no_secret(tmp_path: Path) -> None:
    """The classic: an RS256 issuer's public key as the secret of HS256."""
    signer = Signer("RS256", tmp_path)
    claims = jwt.decode(signer.token(role="root"), options={"verify_signature": False})
    refused(Tokens([signer.issuer]), forged({"alg": "HS256", "typ": "JWT"}, claims, signer.public))


def test_anothers_signature_is_refused(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Signer(signer.algorithm, tmp_path / "other")
    key = b"t" * 32 if signer.algorithm == "HS256" else other.key
    refused(Tokens([signer.issuer]), signer.token(key=key))


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["b64"]},
        {"crit": []},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
    ],
)
def test_headers_change_nothing(tmp_path: Path, headers: dict[str, Any]) -> None:
    """No key is taken from a token or from where it points to; unknown critical extensions are refused."""
    signer = Signer("EdDSA", tmp_path)
    tokens = Tokens([signer.issuer])
    if "crit" in headers:
        refused(tokens, signer.token(headers=headers))
    else:
        assert tokens.authenticate(signer.token(headers=headers)).principal.name == "jwt:ada"
    refused(tokens, signer.token(headers=headers, key=ed25519.Ed25519PrivateKey.generate()))


def test_a_critical_extension_that_the_library_knows_is_none_of_ours(tmp_path: Path) -> None:
    signer = Signer("HS256", tmp_path)
    claims = jwt.decode(signer.token(), options={"verify_signature": False})
    plain = {"alg": "HS256", "typ": "JWT"}
    tokens = Tokens([signer.issuer])
    assert tokens.authenticate(forged(plain, claims, SECRET)).principal.name == "jwt:ada"
    refusal = refused(tokens, forged(plain | {"crit": ["b64"], "b64": True}, claims, SECRET))
    assert "critical extensions" in refusal.message


def test_no_malformed_token_gets_in_or_breaks_anything(signer: Signer) -> None:
    """1,000 changed tokens per algorithm: bits, cuts, parts, nestings. 0 let in, 0 other errors, 1 s."""
    tokens = Tokens([signer.issuer])
    good = signer.token()
    tokens.authenticate(good)
    chance = random.Random(7)
    header, body, signature = good.split(".")
    began = time.monotonic()
    deep = base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")
    odd = ["", ".", "..", "...", "a.b.c", good + ".", "." + good, f"{header}.{body}", f"{header}.{body}."]
    odd += [f"{deep}.{body}.{signature}", f"{header}.{deep}.{signature}", "x" * (LONGEST_TOKEN + 1)]
    odd += [
        good.replace(".", "\x00."),
        f"{good}\n",
        "é.é.é",
        "\ud800.a.b",
        f"{good}A" * 3,
    ]
    for text in (b"null", b"[]", b"5", b'"x"', b"{}", b"\xff\xfe", b'{"iss":1e999}', b"NaN"):
        part = base64.urlsafe_b64encode(text).decode().rstrip("=")
        odd += [f"{header}.{part}.{signature}", f"{part}.{body}.{signature}"]
    for token in odd:
        refused(tokens, token)
    for _ in range(1000):
        letters = list(good)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(letters))
            if chance.random() < 0.3:
                del letters[place]
            else:
                letters[place] = chr(chance.choice([chance.randrange(32, 127), chance.randrange(0x2FF)]))
        changed = "".join(letters)
        if decoded(changed) != decoded(good):  # base64 has several spellings of a last letter
            refused(tokens, changed)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("algorithm", "content", "words"),
    [
        ("EdDSA", b"", "no PEM public key"),
        ("EdDSA", b"\xff" * 100, "no PEM public key"),
        ("HS256", b"short", "32 bytes or more"),
        ("HS256", b"-----BEGIN PUBLIC KEY-----" + b"x" * 100, "no PEM key"),
        ("HS256", b"x" * 70_000, "32 bytes or more"),
        ("RS256", public_pem(rsa.generate_private_key(65537, 1024)), "no key that is good for RS256"),
        ("RS256", public_pem(ed25519.Ed25519PrivateKey.generate()), "no key that is good for RS256"),
        ("ES256", public_pem(ec.generate_private_key(ec.SECP384R1())), "no key that is good for ES256"),
        ("EdDSA", private_pem(ed25519.Ed25519PrivateKey.generate()), "no PEM public key"),
    ],
)
def test_a_key_file_that_does_not_fit_is_named(
    tmp_path: Path, algorithm: Any, content: bytes, words: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    issuer = Issuer(issuer="i", audience="a", algorithm=algorithm, key_file=str(file))
    with pytest.raises(ConfigError, match=words) as wrong:
        Tokens([issuer])
    assert str(file) in wrong.value.message
    missing = Issuer(issuer="i", audience="a", algorithm=algorithm, key_file=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens([missing])


def forged(header: dict[str, Any], claims: Any, secret: bytes) -> str:
    """A token as anybody can write one, signed with HMAC whatever it says."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def decoded(token: str) -> list[bytes] | None:
    try:
        return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    except (ValueError, UnicodeEncodeError):
        return None


def _fields(issuer: Issuer) -> dict[str, Any]:
    return {name: getattr(issuer, name) for name in issuer.__struct_fields__}
