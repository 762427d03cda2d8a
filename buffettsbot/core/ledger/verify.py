"""A hash is judged and nothing is changed."""

from dataclasses import replace
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


def verify(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    *,
    transaction_hash: str,
    period: str | None = None,
    now: datetime,
) -> tuple[str | None, Verdict, list[str]]:
    """Judge a hash and change nothing; return it, the verdict, and the periods on sale it pays for.

    Without a period it has to pay for the cheapest plan there is. That a hash is used already comes
    before all else. Raises NotFound for a period that is not on sale.
    """
    try:
        transaction_hash = parse_hash(transaction_hash)
    except Invalid as error:
        return None, verdict_of(Reason.MALFORMED_HASH, str(error)), []
    prices = {plan.period: plan.price for plan in plans.list_plans(db, on_sale_only=True)}
    if period is not None and parse_period(period) not in prices:
        raise UnknownPlan(f"No plan for {parse_period(period)} is on sale.")
    wanted = [prices[parse_period(period)]] if period else list(prices.values())
    answers = chain.look_up(transaction_hash)
    price = min(wanted) * MICRO if wanted else 1
    verdict = decide(answers, replace(expectation, price=price), now, quorum=chain.quorum)
    if _is_taken(db, transaction_hash, verdict.reason):
        verdict = replace(
            verdict, reason=Reason.ALREADY_USED, detail=SENTENCES[Reason.ALREADY_USED]
        )
    paid = (verdict.amount or 0) + expectation.tolerance
    good = verdict.verdict == "accepted"
    return (
        transaction_hash,
        verdict,
        [p for p, cost in prices.items() if good and paid >= cost * MICRO],
    )


def _is_taken(db: Database, transaction_hash: str, reason: Reason) -> bool:
    """Whether a hash has bought already, whatever the chain says of it now; or, where it says that
    money came, is claimed."""
    with db.read() as session:
        claims = claims_of(session.connection(), transaction_hash)
    statuses = {claim.status for claim in claims} - {"refused"}
    return "accepted" in statuses or (bool(statuses) and reason in _MONEY_CAME)


_MONEY_CAME = (Reason.ACCEPTED, Reason.UNDERPAID, Reason.TOO_OLD)
