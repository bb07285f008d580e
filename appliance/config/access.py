"""The settings of access: TLS, names and origins, tokens, certificates, rates. Types, bounds and defaults.

The sections `tls` and `access` of `schema`. A secret is never a setting: files hold them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from appliance.principal import Pattern, Rates, Role, Tier

Path = Annotated[str, Meta(max_length=4096)]
Algorithm = Literal["EdDSA", "ES256", "RS256", "HS256"]
Scope = Annotated[tuple[Pattern, ...], Meta(max_length=256)]
Claim = Annotated[str, Meta(max_length=64)]
HostName = Annotated[str, Meta(pattern=r"\A(\*\.)?[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?\Z")]
Origin = Annotated[str, Meta(pattern=r"\Ahttps?://[a-z0-9.\[\]:-]{1,255}\Z")]


class Tls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Encryption of what clients send and get; TLS 1.2 or newer. Files are read again when they change."""

    certificate: Annotated[
        Path,
        Meta(description="PEM file: the server's certificate and those that vouch for it; empty: no TLS"),
    ] = ""
    key: Annotated[Path, Meta(description="PEM file: the certificate's private key, without a password")] = ""
    client_ca: Annotated[
        Path, Meta(description="PEM file: who vouches for clients' certificates; empty: none are asked for")
    ] = ""
    clients: Annotated[
        Literal["optional", "required"],
        Meta(description="whether a client may come without a certificate of its own"),
    ] = "optional"
    by_proxy: Annotated[
        bool, Meta(description="other machines come through a proxy of yours, which has TLS in our stead")
    ] = False


class Allowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What those that a token or certificate names may do. A scope is patterns; `*` is everything."""

    models: Annotated[Scope, Meta(description="models that they may use")] = ("*",)
    bases: Annotated[Scope, Meta(description="knowledge bases that they may use, by name or id")] = ("*",)
    routes: Annotated[Scope, Meta(description="paths, or `METHOD path`, that they may call")] = ("*",)
    tools: Annotated[Scope, Meta(description="server-side tools that they may use; none: no tools")] = ()
    tiers: Annotated[
        tuple[Tier, ...], Meta(max_length=3, description="values of service_tier that they may ask for")
    ] = ("default", "flex")
    rates: Rates = field(default_factory=Rates)


class Issuer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose JSON Web Tokens are believed. One algorithm per issuer, so that no token chooses its own."""

    issuer: Annotated[str, Meta(min_length=1, max_length=1024, description="the claim `iss`, exactly")]
    audience: Annotated[str, Meta(min_length=1, max_length=1024, description="must be in the claim `aud`")]
    algorithm: Annotated[Algorithm, Meta(description="the one algorithm of its signatures")]
    key_file: Annotated[
        Path, Meta(min_length=1, description="PEM public key; for HS256 the secret, 32 bytes or more")
    ]
    clock_skew: Annotated[
        float, Meta(ge=0, le=600, description="seconds that its clock may differ from ours")
    ] = 30.0
    longest: Annotated[
        float, Meta(gt=0, le=31_622_400, description="seconds that a token may be good for at most")
    ] = 86_400.0
    owner_claim: Annotated[Claim, Meta(min_length=1, description="claim that names whose data it is")] = "sub"
    role_claim: Annotated[
        Claim, Meta(description="claim with the role, or a list of groups; empty: none")
    ] = "role"
    roles: Annotated[
        dict[str, Role], Meta(max_length=256, description="a role or group of theirs, and the role here")
    ] = {}
    role: Annotated[
        Role | Literal[""], Meta(description="role where the claim names none; empty: such are refused")
    ] = ""
    allowance: Allowance = field(default_factory=Allowance)


class Certificate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client certificate that counts as a credential: by fingerprint, or by a pattern of its subject."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="who it is; owns the data")]
    fingerprint: Annotated[
        str,
        Meta(pattern=r"\A([0-9A-Fa-f:]{64,95})?\Z", description="SHA-256 of the certificate, hexadecimal"),
    ] = ""
    subject: Annotated[
        str, Meta(max_length=1024, description="pattern of the subject as RFC 4514 writes it")
    ] = ""
    role: Annotated[Role, Meta(description="what it may")] = "user"
    allowance: Allowance = field(default_factory=Allowance)


class Access(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may come in, from where, and how often."""

    required: Annotated[
        bool, Meta(description="ask for a credential on loopback too, even before there is a key")
    ] = False
    hosts: Annotated[
        tuple[HostName, ...],
        Meta(
            max_length=256,
            description="further names that clients may call this server by, such as hearth.example.org; "
            "its addresses and localhost are always right",
        ),
    ] = ()
    origins: Annotated[
        tuple[Origin, ...],
        Meta(
            max_length=256,
            description="web pages that may use this server from a browser (CORS), such as "
            "https://chat.example.org; none: no page but its own",
        ),
    ] = ()
    folder_roots: Annotated[
        tuple[Path, ...],
        Meta(max_length=256, description="folders within which knowledge bases may follow folders"),
    ] = ("~",)
    address: Rates = field(default_factory=Rates)  # of every address that clients come from
    issuers: Annotated[
        tuple[Issuer, ...], Meta(max_length=32, description="whose JSON Web Tokens are believed")
    ] = ()
    certificates: Annotated[
        tuple[Certificate, ...], Meta(max_length=1000, description="client certificates that are credentials")
    ] = ()
