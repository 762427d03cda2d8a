"""A hash is judged and nothing is changed."""

from dataclasses import dataclass, replace
from datetime import datetime

from buffettsbot.core.chain.judge import SENTENCES, Expectation, Reason, Verdict, decide, verdict_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import Invalid, UnknownPlan
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.payments import claims_of
from buffettsbot.core.money import MICRO
from buffettsbot.core.offers import plans
from buffettsbot.core.offers.plans import parse_period
from buffettsbot.core.storage.database import Database

_MONEY_CAME = (Reason.ACCEPTED, Reason.UNDERPAID, Reason.TOO_OLD)


@dataclass(frozen=True)
class Worth:
    """What a hash is worth: judged, and the periods on sale that it pays for.

    The hash is in its one spelling, None for what is no hash.
    """

    transaction_hash: str | None
    verdict: Verdict
    periods: list[str]


def verify(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    *,
    transaction_hash: str,
    period: str | None = None,
    now: datetime,
) -> Worth:
    """Judge a hash and change nothing.

    Without a period it has to pay for the cheapest plan there is. That a hash is used already comes
    before all else. Raises NotFound for a period that is not on sale.
    """
    try:
        transaction_hash = parse_hash(transaction_hash)
    except Invalid as error:
        return Worth(None, verdict_of(Reason.MALFORMED_HASH, str(error)), [])
    prices = {p.period: p.price * MICRO for p in plans.list_plans(db, on_sale_only=True)}
    wanted = replace(expectation, price=_price(prices, period))
    verdict = decide(chain.look_up(transaction_hash), wanted, now, quorum=chain.quorum)
    if _is_taken(db, transaction_hash, verdict.reason):
        used = Reason.ALREADY_USED
        verdict = replace(verdict, reason=used, detail=SENTENCES[used])
    paid = (verdict.amount or 0) + expectation.tolerance
    good = verdict.reason is Reason.ACCEPTED
    return Worth(transaction_hash, verdict, [p for p in prices if good and paid >= prices[p]])


def _price(prices: dict[str, int], period: str | None) -> int:
    """Return what has to be paid, in micro-USDT: of a period, or the least of all."""
    if period is None:
        return min(prices.values(), default=1)
    on_sale = parse_period(period)
    if on_sale not in prices:
        raise UnknownPlan(f"No plan for {on_sale} is on sale.")
    return prices[on_sale]


def _is_taken(db: Database, transaction_hash: str, reason: Reason) -> bool:
    """Whether a hash has bought already, whatever the chain says of it now; or, where it says that
    money came, is claimed."""
    with db.read() as session:
        statuses = {claim.status for claim in claims_of(session.connection(), transaction_hash)}
    live = statuses - {"refused"}
    return "accepted" in live or (bool(live) and reason in _MONEY_CAME)
