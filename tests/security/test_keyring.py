"""Keys: what is kept of them, who they are, how they end; each on a real database."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import Conflict, InvalidValue, NotAuthenticated, NotFound, SetupError
from appliance.principal import Grant, Rates
from appliance.security import keyring as room
from appliance.security.keyring import Keyring, key_status, prefix_of, state_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> Iterator[Keyring]:
    found = Keyring(tmp_path / "access", clock)
    yield found
    found.close()


def boss(ring: Keyring) -> str:
    return ring.create("boss", Grant(role="admin"))[1]


def test_the_first_key_is_an_admins(ring: Keyring) -> None:
    assert not ring.has_keys
    with pytest.raises(Conflict, match="first key must be an admin's"):
        ring.create("someone", Grant())
    assert not ring.has_keys
    boss(ring)
    assert ring.has_keys
    assert ring.create("someone", Grant())[0].grant.role == "user"


def test_a_secret_is_its_keys_and_is_kept_nowhere(tmp_path: Path, clock: Clock) -> None:
    ring = Keyring(tmp_path / "access", clock)
    key, secret = ring.create("boss", Grant(role="admin"))
    principal = ring.authenticate(secret)
    assert (principal.id, principal.name, principal.credential) == ("local", "boss", key.id)
    assert secret.startswith(prefix_of(key))
    ring.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "access").iterdir())
    assert secret.encode() not in kept
    assert secret.rpartition("_")[2].encode() not in kept
    assert secret not in repr(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"),
        lambda s: s[:-1],
        lambda s: s + "A",
        lambda s: s.upper(),
        lambda s: s.replace("hearth_", "sk-"),
        lambda s: s + "\n",
        lambda s: " " + s,
        lambda s: "hearth_" + "a" * 10 + "_" + s.rpartition("_")[2],
        lambda s: "é" * 61,
        lambda s: "\ud800",
        lambda s: "x" * 100_000,
        lambda s: "",
    ],
)
def test_any_other_secret_is_refused(ring: Keyring, change: object) -> None:
    secret = boss(ring)
    with pytest.raises(NotAuthenticated) as refused:
        ring.authenticate(change(secret))  # type: ignore[operator]
    assert secret not in refused.value.message


def test_secrets_are_compared_in_constant_time(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = boss(ring)
    compared: list[int] = []
    genuine = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(b))
        return genuine(a, b)

    monkeypatch.setattr(room.hmac, "compare_digest", compare)
    ring.authenticate(secret)
    with pytest.raises(NotAuthenticated):
        ring.authenticate("hearth_unknownkey_" + "A" * 43)
    assert compared == [32, 32]  # an unknown key takes as long


def test_keys_are_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = Keyring(tmp_path, clock)
    secret = boss(first)
    grant = Grant(
        role="reader",
        models=("tiny-*",),
        bases=("manuals",),
        routes=("/v1/*",),
        tools=(),
        namespace="plant",
        keeps_content=True,
        rates=Rates(requests_per_minute=5, tokens_per_minute=100, concurrent=2),
    )
    made, other = first.create("kiosk", grant, expires_at=clock.now + 60)
    first.authenticate(other)
    first.close()
    second = Keyring(tmp_path, clock)
    assert second.authenticate(secret).role == "admin"
    kept = second.get("kiosk")
    assert kept.grant == grant
    assert (kept.id, kept.owner, kept.expires_at) == (made.id, made.id, clock.now + 60)
    assert kept.last_used_at == clock.now
    second.close()


def test_a_key_expires(ring: Keyring, clock: Clock) -> None:
    boss(ring)
    key, secret = ring.create("guest", Grant(), expires_at=clock.now + 10)
    assert ring.expires_at(key.id) == clock.now + 10
    assert ring.expires_at("key_none") is None
    ring.authenticate(secret)
    clock.now += 10
    assert state_of(ring.get("guest"), clock.now) == "expired"
    with pytest.raises(NotAuthenticated) as refused:
        ring.authenticate(secret)
    assert refused.value.detail_code == "expired_api_key"
    with pytest.raises(NotAuthenticated):
        ring.principal(key.id)
    ring.update(key.id, expires_at=None)
    assert ring.authenticate(secret).name == "guest"
    with pytest.raises(InvalidValue):
        ring.create("late", Grant(), expires_at=clock.now)


def test_a_revoked_key_is_over_for_good(ring: Keyring, clock: Clock) -> None:
    boss(ring)
    key, secret = ring.create("gone", Grant())
    assert ring.principal(key.id).name == "gone"
    assert ring.revoke("gone").revoked_at == clock.now
    for ask in (lambda: ring.authenticate(secret), lambda: ring.principal(key.id)):
        with pytest.raises(NotAuthenticated) as refused:
            ask()
        assert refused.value.detail_code == "revoked_api_key"
    with pytest.raises(Conflict, match="is revoked"):
        ring.rotate(key.id)
    with pytest.raises(NotFound):
        ring.get("gone")
    assert ring.create("gone", Grant())[0].id != key.id  # its name is free, its id never
    assert key_status(ring.get(key.id), clock.now).state == "revoked"
    with pytest.raises(NotAuthenticated):
        ring.principal("key_never")


def test_rotation_ends_the_old_secret_at_once_or_after_the_overlap(ring: Keyring, clock: Clock) -> None:
    boss(ring)
    _, first = ring.create("app", Grant())
    _, second = ring.rotate("app")
    with pytest.raises(NotAuthenticated):
        ring.authenticate(first)
    _, third = ring.rotate("app", overlap=60)
    assert ring.authenticate(second).name == ring.authenticate(third).name == "app"
    clock.now += 60
    with pytest.raises(NotAuthenticated):
        ring.authenticate(second)
    assert ring.authenticate(third).name == "app"


def test_an_admin_always_stays(ring: Keyring) -> None:
    boss(ring)
    with pytest.raises(Conflict, match="the only admin's key"):
        ring.revoke("boss")
    with pytest.raises(Conflict, match="the only admin's key"):
        ring.update("boss", grant=Grant())
    assert ring.update("boss", grant=Grant(role="admin", models=("small*",))).grant.models == ("small*",)
    ring.create("deputy", Grant(role="admin"))
    ring.update("boss", grant=Grant(role="operator"), name="former")
    assert ring.get("former").grant.role == "operator"
    ring.revoke("former")


@pytest.mark.parametrize("name", ["", " x", "-x", "a" * 65, "a\nb", "é", "a/b", "\x00"])
def test_odd_names_are_refused(ring: Keyring, name: str) -> None:
    boss(ring)
    with pytest.raises(InvalidValue):
        ring.create(name, Grant())


def test_names_are_of_one_key_each(ring: Keyring) -> None:
    boss(ring)
    ring.create("a", Grant())
    with pytest.raises(Conflict, match="already"):
        ring.create("a", Grant())
    with pytest.raises(Conflict, match="already"):
        ring.update("a", name="boss")
    assert ring.update("a", name="a").name == "a"


def test_there_is_a_most(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    boss(ring)
    monkeypatch.setattr(room, "MOST_KEYS", 1)
    with pytest.raises(Conflict, match="already, ended ones counted"):
        ring.create("b", Grant())


def test_an_id_is_never_given_twice(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = iter("a" * room.ID_LENGTH * 2 + "b" * room.ID_LENGTH)
    monkeypatch.setattr(room.secrets, "choice", lambda _: next(letters))
    assert ring.create("boss", Grant(role="admin"))[0].id == "key_" + "a" * room.ID_LENGTH
    assert ring.create("b", Grant())[0].id == "key_" + "b" * room.ID_LENGTH


def test_uses_are_told_at_once_and_written_down_later(ring: Keyring, clock: Clock) -> None:
    secret = boss(ring)
    assert ring.get("boss").last_used_at is None
    ring.authenticate(secret)
    assert [key.last_used_at for key in ring.list()] == [clock.now]
    ring.save_uses()
    ring.save_uses()  # nothing new
    assert ring.get("boss").last_used_at == clock.now
    clock.now += 5
    ring.authenticate(secret)
    assert ring.rotate("boss")[0].last_used_at == clock.now


def test_one_process_at_a_time(ring: Keyring, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="in use by another Hearth"):
        Keyring(tmp_path / "access")


def test_a_file_that_is_no_keyring_is_refused_and_leaves_the_lock(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"no database" * 1000)
    for _ in range(2):  # the second would say "in use"
        with pytest.raises(Exception, match="damaged"):
            Keyring(tmp_path)


def test_only_the_owner_may_look_into_the_directory(ring: Keyring, tmp_path: Path) -> None:
    assert (tmp_path / "access").stat().st_mode & 0o077 == 0


def test_the_table_holds_digests_only(ring: Keyring, tmp_path: Path) -> None:
    secret = boss(ring)
    with sqlite3.connect(tmp_path / "access" / "keys.db") as looking:
        (row,) = looking.execute("SELECT * FROM keys").fetchall()
    assert len(row[3]) == 32
    assert not any(secret in str(value) for value in row)
