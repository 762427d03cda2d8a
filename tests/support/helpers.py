"""What many tests need: a moment, addresses, payments, and a blockchain that says what it is told.

Nothing here mocks our own code: a `FakeSource` stands where Tronscan and TronGrid stand, and keeps
what it was asked. Import it plainly: `from helpers import NOW, WALLET, fake_chain, paid`.
"""

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlmodel import select

from buffettsbot.core.chain.judge import Expectation
from buffettsbot.core.chain.sources import Chain, Source, SourceUnavailable
from buffettsbot.core.chain.transaction import Answer, ChainTransaction, Silence, Transfer
from buffettsbot.core.health.invariants import BrokenPromise, find_broken
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.members import users
from buffettsbot.core.messages.words import Style
from buffettsbot.core.money import from_usdt
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Payment, Plan, Subscription, TelegramUser

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

# Real addresses of the project's TRON facts, B.8.
WALLET = "TYPrKF2sevXuE86Xo3Y2mhFnjseiUcybny"
SENDER = "TNXoiAJ3dct8Fjg4M9fkLFh9S2v9TXc32G"
STRANGER = "TTRmEA73gpoxK2KRmhL7GtcYLh88VefYss"
USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
FAKE_USDT = "TLwLTBk5k9nVNM3FK6yP8bXWsu6aTczcag"

EXPECTATION = Expectation(wallet=WALLET, contract=USDT)
STYLE = Style(
    language="en",
    zone=ZoneInfo("UTC"),
    community="our community",
    support=None,
    explorer_url="https://tronscan.org/#/transaction/",
    directory=None,
)

# The names that the seed's own env file uses.
SEED_NAMES = (
    "SQL_ENGINE",
    "SQL_DATABASE",
    "SQL_USER",
    "SQL_PASSWORD",
    "SQL_HOST",
    "SQL_PORT",
    "STAS_TRC20_WALLET_ADDRESS",
    "API_ENDPOINT",
    "API_KEY",
    "TELEGRAM_BOT_TOKEN",
)

SaidOfOne = ChainTransaction | Silence | BaseException | Callable[[str], ChainTransaction]
Said = SaidOfOne | Sequence[SaidOfOne]


def hash_of(number: int) -> str:
    """Return a transaction hash that is easy to recognise: `hash_of(7)` ends in 7."""
    return f"{number:064x}"


def paid(
    transaction_hash: str,
    usdt: str | int = "50",
    *,
    to: str = WALLET,
    sender: str = SENDER,
    contract: str = USDT,
    at: datetime = NOW - MINUTE,
    final: bool = True,
    succeeded: bool = True,
    risky: bool = False,
    source: str = "tronscan",
) -> ChainTransaction:
    """Return a transaction that moved so much USDT to the wallet: the good case, unless told."""
    return ChainTransaction(
        transaction_hash,
        source,
        found=True,
        final=final,
        succeeded=succeeded,
        block=61_393_765,
        time=at,
        transfers=(Transfer(contract, sender, to, from_usdt(str(usdt))),),
        risky=risky,
    )


def not_found(transaction_hash: str, source: str = "tronscan") -> ChainTransaction:
    """Return the answer for a hash that the source has never seen."""
    return ChainTransaction(transaction_hash, source, found=False)


def silence(source: str = "tronscan") -> Silence:
    """Return the answer of a source that does not answer."""
    return Silence(source, "it is away")


def from_evidence(evidence: Sequence[Mapping[str, Any]]) -> tuple[Answer, ...]:
    """Return the answers that the ledger keeps, as they were when `to_evidence` wrote them down."""
    return tuple(_revived(entry) for entry in evidence)


def _revived(entry: Mapping[str, Any]) -> Answer:
    if "why" in entry:
        return Silence(entry["source"], entry["why"])
    when = entry["time"] and datetime.fromisoformat(entry["time"])
    transfers = tuple(Transfer(**transfer) for transfer in entry["transfers"])
    return ChainTransaction(**{**entry, "time": when, "transfers": transfers})


class FakeSource:
    """A chain source that says of each hash what it was told to say; unknown hashes are not found.

    An answer is a transaction, a `Silence` (raised as SourceUnavailable), an exception (raised), a
    function of the hash, or a list of these, said one after the other; the last is then repeated.
    `asked` keeps every hash in the order of the questions.
    """

    def __init__(self, answers: Mapping[str, Said] | None = None, *, name: str = "tronscan"):
        self.name = name
        self.answers: dict[str, Said] = dict(answers or {})
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def look_up(self, transaction_hash: str, *, deadline: float) -> ChainTransaction:
        """Say what was told; see the class."""
        said = self._said(transaction_hash)
        if isinstance(said, Silence):
            raise SourceUnavailable(said.why)
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, ChainTransaction):
            return said
        return said(transaction_hash)

    def _said(self, transaction_hash: str) -> SaidOfOne:
        with self._lock:
            self.asked.append(transaction_hash)
            said = self.answers.get(transaction_hash, not_found(transaction_hash, self.name))
            if not isinstance(said, Sequence):
                return said
            if len(said) > 1:
                self.answers[transaction_hash] = said[1:]
            return said[0]


def fake_chain(
    *answers: Mapping[str, Said] | Source, quorum: int = 1, ask_seconds: float = 0.0
) -> Chain:
    """Return a chain of fake sources, named tronscan and trongrid in this order.

    It asks each source once: repeated questions within one look-up (`ask_seconds`) are off.
    """
    names = ("tronscan", "trongrid", "third")
    sources: list[Source] = [
        FakeSource(said, name=name) if isinstance(said, Mapping) else said
        for said, name in zip(answers, names, strict=False)
    ]
    return Chain(sources, quorum=quorum, ask_seconds=ask_seconds)


def payments_chain(*transactions: ChainTransaction) -> Chain:
    """Return a chain of one source that knows exactly these transactions."""
    return fake_chain({transaction.hash: transaction for transaction in transactions})


def person(db: Database, chat_id: int = 7, username: str | None = "ann", **names: Any) -> int:
    """Register somebody; return their chat id."""
    user, _ = users.register(
        db, chat_id=chat_id, telegram_username=username, now=NOW - DAY, **names
    )
    return user.chat_id


def staff(db: Database, *chat_ids: int) -> None:
    """Register admins, who receive the notices."""
    for chat_id in chat_ids:
        person(db, chat_id, f"admin{chat_id}")
        users.set_staff(db, chat_id, is_staff=True)


def shop(db: Database, **prices: int) -> Plan:
    """Put plans on sale (`shop(db, month=50, year=400)`); without any: 1 month at 50 USDT.

    Returns the last of them.
    """
    periods = {"month": "1 month", "quarter": "3 months", "half": "6 months", "year": "1 year"}
    made = [
        plans.create_plan(db, period=periods[name], price=price)
        for name, price in (prices or {"month": 50}).items()
    ]
    return made[-1]


def buy(
    db: Database,
    transaction_hash: str,
    *,
    who: str | int = 7,
    period: str = "1 month",
    usdt: str | int = "50",
    now: datetime = NOW,
) -> Outcome:
    """Claim a good payment through the real claim; the plan has to be on sale."""
    chain = payments_chain(paid(transaction_hash, usdt, at=now - MINUTE))
    return claim(
        db,
        chain,
        EXPECTATION,
        person=who,
        period=period,
        transaction_hash=transaction_hash,
        now=now,
    )


def member(
    db: Database,
    chat_id: int = 7,
    username: str = "ann",
    *,
    period: str = "1 month",
    now: datetime = NOW,
) -> Outcome:
    """Register somebody and sell them a membership, with a hash made of their chat id."""
    person(db, chat_id, username)
    if not any(plan.period == period for plan in plans.list_plans(db)):
        plans.create_plan(db, period=period, price=50)
    return buy(db, hash_of(chat_id), who=chat_id, period=period, usdt="1000000", now=now)


def rows(db: Database, model: type[Any]) -> list[Any]:
    """Return every row of a table, in the order of its key."""
    key = next(iter(model.__table__.primary_key))
    with db.read() as session:
        return list(session.exec(select(model).order_by(key)).all())


def ledger(db: Database, transaction_hash: str | None = None) -> list[Payment]:
    """Return the ledger, or its entries for one hash."""
    entries: list[Payment] = rows(db, Payment)
    return [p for p in entries if transaction_hash in (None, p.transaction_hash)]


def membership(db: Database, chat_id: int = 7) -> Subscription:
    """Return the one membership of a customer."""
    (found,) = [s for s in rows(db, Subscription) if s.customer_id == chat_id]
    assert isinstance(found, Subscription)
    return found


def queued(db: Database, chat_id: int | None = None) -> list[str]:
    """Return the kinds of what waits in the outbox, for everyone or for one chat."""
    return [o.kind for o in rows(db, Outbox) if chat_id in (None, o.chat_id)]


def waits_for_a_lock(db: Database) -> bool:
    """Say whether somebody waits for somebody else's row just now (PostgreSQL)."""
    with db.read() as session:
        blocked = "datname = current_database() AND wait_event_type = 'Lock'"
        count = session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {blocked}"))
    return bool(count)


def broken(db: Database, now: datetime) -> list[BrokenPromise]:
    """Return what `db check` finds, but for what is overdue because a test runs no timers."""
    return [one for one in find_broken(db, now=now) if not one.invariant.endswith("-overdue")]


def user(db: Database, chat_id: int) -> TelegramUser:
    """Return a registered person."""
    return users.show_user(db, chat_id)


def in_parallel(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0) … work(count - 1)` in as many threads, started together; return what each
    returned, or the exception it raised."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001 -- handed to the test
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def clean_env(database_url: str, *, home: Path | None = None, **settings: object) -> dict[str, str]:
    """Return the whole environment for a subprocess: this database, these settings, nothing else.

    `clean_env(url, group_id=-100)` sets BUFFETTSBOT_GROUP_ID. The wallet is WALLET unless told
    otherwise; a setting given as None is left out. Give `home` when the process is to find (or
    write) files of its own there; without it no env file of this machine is ever read.
    """
    env = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    env |= {"LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    place = home or _shared_home()
    env["HOME"] = str(place)
    for name, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ):
        env[name] = str(place / folder)
    if home is None:
        env["BUFFETTSBOT_ENV_FILE"] = str(place / "empty.env")
    values: dict[str, object] = {"database_url": database_url, "wallet": WALLET} | settings
    chosen = {f"BUFFETTSBOT_{k.upper()}": str(v) for k, v in values.items() if v is not None}
    return env | chosen


_home: Path | None = None


def _shared_home() -> Path:
    """An empty home for processes that need none, gone when the tests end."""
    global _home
    if _home is None:
        _home = Path(tempfile.mkdtemp(prefix="buffettsbot-home-"))
        (_home / "empty.env").touch()
        atexit.register(shutil.rmtree, _home, ignore_errors=True)
    return _home
