"""How much online use a key, a platform or everybody has left today: reserved before a call, settled after
it.

One SQLite transaction each, so two requests never spend the same remainder, and nothing that was spent is
forgotten in a crash: what was reserved then counts as spent. Days are UTC. Money is kept in millionths.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from appliance.config.routing import Budget
from appliance.store.database import Connection, Database

MILLION = 1_000_000
KEPT_DAYS = 400

_TABLE = """
    CREATE TABLE IF NOT EXISTS spending(
        day INTEGER NOT NULL,
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        tokens INTEGER NOT NULL,
        money INTEGER NOT NULL,
        reserved_tokens INTEGER NOT NULL,
        reserved_money INTEGER NOT NULL,
        PRIMARY KEY(day, scope, name)
    ) STRICT, WITHOUT ROWID
"""


class Amount(Struct, frozen=True, kw_only=True):
    """`money` in millionths of the operator's currency."""

    tokens: int
    money: int


class _Account(Struct, frozen=True, kw_only=True):
    """One budget as it applies to one name."""

    scope: str
    name: str
    budget: Budget


class Reservation(Struct, frozen=True, kw_only=True):
    day: int
    accounts: tuple[_Account, ...]
    amount: Amount


class Budgets:
    """Over a database file of its own. `close` at the end. Blocks nothing: SQLite works in its own thread."""

    def __init__(
        self, path: Path, budgets: Sequence[Budget], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = wall_clock
        self._budgets = tuple(budgets)
        self._database = Database(path, _prepare)
        self._used: dict[tuple[int, str, str], Amount] = self._database.read(_read_today(self._day()))

    def replace(self, budgets: Sequence[Budget]) -> None:
        """New limits, from a reload; what was spent stays."""
        self._budgets = tuple(budgets)

    def refusal(self, key: str, platform: str) -> str:
        """Which budget is used up, in words for the route's reason; "" when there is something left."""
        for account in self._accounts(key, platform):
            used = self._used.get((self._day(), account.scope, account.name))
            budget = account.budget
            if used is None:
                continue
            if budget.tokens and used.tokens >= budget.tokens:
                return f"the day's {budget.tokens} tokens of {_words(account)} are used up"
            if budget.money and used.money >= budget.money * MILLION:
                return f"the day's {budget.money:g} of {_words(account)} are used up"
        return ""

    async def reserve(self, key: str, platform: str, amount: Amount) -> Reservation | str:
        """The amount set aside in every budget that applies, or the first one, in words, that has too little
        left.

        Raises what the store raises.
        """
        day, accounts = self._day(), self._accounts(key, platform)
        if not accounts:
            return Reservation(day=day, accounts=(), amount=amount)

        def work(connection: Connection) -> str:
            for account in accounts:
                used = _used(connection, day, account)
                if not _fits(used, amount, account.budget):
                    return f"the budget of {_words(account)} has too little left today"
            for account in accounts:
                _add(connection, day, account, Amount(tokens=0, money=0), amount)
            return ""

        if refused := await asyncio.wrap_future(self._database.write(work)):
            return refused
        for account in accounts:
            self._mirror(day, account, amount)
        return Reservation(day=day, accounts=accounts, amount=amount)

    async def settle(self, reservation: Reservation, spent: Amount) -> None:
        """Replace what was reserved by what was spent. Raises what the store raises."""
        if not reservation.accounts:
            return
        back = Amount(tokens=-reservation.amount.tokens, money=-reservation.amount.money)
        difference = Amount(tokens=spent.tokens + back.tokens, money=spent.money + back.money)
        for account in reservation.accounts:
            self._mirror(reservation.day, account, difference)

        def work(connection: Connection) -> None:
            for account in reservation.accounts:
                _add(connection, reservation.day, account, spent, back)

        await asyncio.wrap_future(self._database.write(work))

    def close(self) -> None:
        self._database.close()

    def _day(self) -> int:
        return int(self._clock() // 86_400)

    def _accounts(self, key: str, platform: str) -> tuple[_Account, ...]:
        """Of each scope the first budget that matches."""
        found: dict[str, _Account] = {}
        for budget in self._budgets:
            name = {"key": key, "platform": platform, "all": "*"}[budget.scope]
            if budget.scope == "all" or fnmatchcase(name, budget.name):
                found.setdefault(budget.scope, _Account(scope=budget.scope, name=name, budget=budget))
        return tuple(found.values())

    def _mirror(self, day: int, account: _Account, change: Amount) -> None:
        place = (day, account.scope, account.name)
        self._used = {each: used for each, used in self._used.items() if each[0] >= day - 1}
        used = self._used.get(place, Amount(tokens=0, money=0))
        self._used[place] = Amount(tokens=used.tokens + change.tokens, money=used.money + change.money)


def _prepare(connection: Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(
        "UPDATE spending SET tokens = tokens + reserved_tokens, money = money + reserved_money,"
        " reserved_tokens = 0, reserved_money = 0 WHERE reserved_tokens <> 0 OR reserved_money <> 0"
    )


def _read_today(day: int) -> Callable[[Connection], dict[tuple[int, str, str], Amount]]:
    def work(connection: Connection) -> dict[tuple[int, str, str], Amount]:
        rows = connection.execute("SELECT scope, name, tokens, money FROM spending WHERE day = ?", (day,))
        return {(day, scope, name): Amount(tokens=tokens, money=money) for scope, name, tokens, money in rows}

    return work


def _used(connection: Connection, day: int, account: _Account) -> Amount:
    row = connection.execute(
        "SELECT tokens + reserved_tokens, money + reserved_money FROM spending"
        " WHERE day = ? AND scope = ? AND name = ?",
        (day, account.scope, account.name),
    ).fetchone()
    return Amount(tokens=row[0], money=row[1]) if row else Amount(tokens=0, money=0)


def _fits(used: Amount, more: Amount, budget: Budget) -> bool:
    enough_tokens = not budget.tokens or used.tokens + more.tokens <= budget.tokens
    return enough_tokens and (not budget.money or used.money + more.money <= budget.money * MILLION)


def _add(connection: Connection, day: int, account: _Account, spent: Amount, reserved: Amount) -> None:
    connection.execute("DELETE FROM spending WHERE day < ?", (day - KEPT_DAYS,))
    connection.execute(
        "INSERT INTO spending VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " tokens = tokens + excluded.tokens, money = money + excluded.money,"
        " reserved_tokens = reserved_tokens + excluded.reserved_tokens,"
        " reserved_money = reserved_money + excluded.reserved_money",
        (
            day,
            account.scope,
            account.name,
            spent.tokens,
            spent.money,
            reserved.tokens,
            reserved.money,
        ),
    )


def _words(account: _Account) -> str:
    return "all online use" if account.scope == "all" else f"{account.scope} {account.name or 'without name'}"
