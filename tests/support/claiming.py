"""What the tests of the ledger share: a claim, or a settle pass, in one line.

They need Ann, registered as 7, and a month on sale for 50 USDT: `ann_and_a_month(db)`.
"""

from datetime import datetime, timedelta
from typing import Any

from helpers import EXPECTATION, MINUTE, NOW, Said, fake_chain, hash_of, person, shop

from buffettsbot.core.chain.judge import Expectation, Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.passes import Report

HASH = hash_of(0xABC)
SPELLINGS = [
    HASH.upper(),
    "0x" + HASH,
    "0X" + HASH.upper(),
    f" {HASH}\n",
    f"https://tronscan.org/#/transaction/{HASH.upper()}",
]


def ann_and_a_month(db: Database) -> None:
    """Register Ann as 7, and put a month on sale for 50 USDT."""
    person(db)
    shop(db)


def claimed(
    db: Database,
    chain: Chain | None = None,
    transaction_hash: str = HASH,
    *,
    who: str | int = 7,
    period: str = "1 month",
    now: datetime = NOW,
    expectation: Expectation = EXPECTATION,
    by: By | None = None,
) -> Outcome:
    """Claim; without a chain the claim is only written down."""
    return claim(
        db,
        chain,
        expectation,
        person=who,
        period=period,
        transaction_hash=transaction_hash,
        now=now,
        by=by,
    )


def reason(outcome: Outcome) -> Reason:
    """Return why a claim stands where it stands."""
    return outcome.verdict.reason


def settled(
    db: Database, said: dict[str, Said] | Chain, *, now: datetime = NOW + MINUTE, **options: Any
) -> Report:
    """Run the settle pass against a chain, or against one that says this."""
    chain = said if isinstance(said, Chain) else fake_chain(said)
    return settle(db, chain, EXPECTATION, now=now, **options)


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return what was due, done, skipped and failed."""
    return report.due, report.done, report.skipped, report.failed


def waiting(db: Database, number: int) -> list[str]:
    """Write down so many claims of as many customers, a second apart; return their hashes."""
    for n in range(number):
        person(db, 100 + n, f"user{n}")
        claimed(db, None, hash_of(n + 1), who=100 + n, now=NOW + timedelta(seconds=n))
    return [hash_of(n + 1) for n in range(number)]
