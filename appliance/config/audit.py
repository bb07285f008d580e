"""The settings of the audit log and of what may be told to online models. Types, bounds and defaults only.

The sections `audit` and `privacy` of `schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

MiB = 1024 * 1024

SensitiveKind = Literal["china-id", "card", "phone", "email", "secret", "iban", "us-ssn"]


class Audit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log of who asked what of which model, chained so that a change shows."""

    enabled: Annotated[bool, Meta(description="keep an audit log in this home")] = True
    when_full: Annotated[
        Literal["refuse", "degrade"],
        Meta(
            description="when lines cannot be written: `refuse` requests until they can, or `degrade`: "
            "answer, and count what is missing"
        ),
    ] = "degrade"
    inbox: Annotated[
        int, Meta(ge=16, le=1_000_000, description="lines that may be under way to the disk at once")
    ] = 8192
    file_bytes: Annotated[
        int,
        Meta(ge=4096, le=1024 * MiB, description="size at which the log goes on in a new file"),
    ] = 16 * MiB
    bytes: Annotated[
        int,
        Meta(
            ge=8192, le=1 << 50, description="most that all files may take; the oldest go, and that is noted"
        ),
    ] = 1024 * MiB
    days: Annotated[int, Meta(ge=1, le=36_500, description="days after which a file of the log goes")] = 365
    key_file: Annotated[
        str,
        Meta(
            max_length=4096, description="file with the log's key; empty: audit/key in this home, made there"
        ),
    ] = ""
    checkpoint_file: Annotated[
        str,
        Meta(
            max_length=4096,
            description="file elsewhere to which the log's checkpoints are appended; empty: none",
        ),
    ] = ""
    checkpoint_seconds: Annotated[
        float,
        Meta(ge=1, le=31_536_000, description="time between two checkpoints, where something was logged"),
    ] = 3600.0


class Privacy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is done about personal data and secrets in what clients send."""

    sensitive: Annotated[
        Literal["off", "tell", "redact", "keep-local"],
        Meta(
            description="prompts that hold such data: `off`: not looked for; `tell`: said in the audit log, "
            "and to the client where it goes online; `redact`: it is taken out of what goes online; "
            "`keep-local`: nothing of it goes online"
        ),
    ] = "tell"
    kinds: Annotated[
        tuple[SensitiveKind, ...],
        Meta(max_length=16, description="what is looked for; empty: all kinds"),
    ] = ()
