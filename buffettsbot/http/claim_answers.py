"""How a claim is answered: its status, and the customer's sentence in the owner's language."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bottle import HTTPResponse

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.hashes import is_off_chain
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.messages.words import Words
from buffettsbot.core.money import to_usdt
from buffettsbot.http import shapes
from buffettsbot.http.answers import answer


def answer_claim(
    outcome: Outcome, sent: str, words: Words, date: Callable[[datetime], str]
) -> HTTPResponse:
    """Return the answer to a claim. `sent`: what was given as its hash; `date` writes a time."""
    reason, price = outcome.verdict.reason, outcome.price
    if outcome.verdict.verdict == "accepted":
        return answer(201, _bought(outcome, date))
    paid = outcome.verdict.amount
    amount = None if paid is None else to_usdt(paid)
    sentence = words.reason(reason, amount=amount, price=price)
    if outcome.verdict.verdict == "pending":
        wait = outcome.retry_after
        pending = shapes.ClaimPending(
            reason=reason, message=sentence, retry_after=wait, amount=amount, price=price
        )
        return answer(202, pending, **({} if wait is None else {"Retry_After": str(wait)}))
    if reason is Reason.ALREADY_USED:
        return answer(400, shapes.HashUsed(detail=sentence, amount=amount, price=price))
    if is_off_chain(sent):
        sentence = words.word("off-chain")
    refused = shapes.ClaimRefused(reason=reason, detail=sentence, amount=amount, price=price)
    return answer(400, refused)


def _bought(outcome: Any, date: Callable[[datetime], str]) -> shapes.SubscriptionCreated:
    """What an accepted claim bought; of such an outcome nothing is None."""
    return shapes.SubscriptionCreated(
        customer=outcome.customer_id,
        plan=outcome.plan_id,
        transaction_hash=outcome.transaction_hash,
        start_date=date(outcome.start_date),
        end_date=date(outcome.end_date),
    )
