"""The judge: is this transaction worth a membership? Pure, total, and where fraud dies.

No clock, no network, no database. Judged are only the Transfer events of the genuine contract, in a
transaction that succeeded and is final; see promises 2 and 3 in the design.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from buffettsbot.core.chain.transaction import Answer, ChainTransaction, Silence, Transfer
from buffettsbot.core.hashes import NO_HASH
from buffettsbot.core.money import to_usdt


class Reason(StrEnum):
    """Why a claim stands where it stands: a slug for programs."""

    ACCEPTED = "accepted"
    NOT_FOUND = "not-found"
    UNCONFIRMED = "unconfirmed"
    SOURCE_UNAVAILABLE = "source-unavailable"
    SOURCES_DISAGREE = "sources-disagree"
    HELD_FOR_REVIEW = "held-for-review"
    MALFORMED_HASH = "malformed-hash"
    ALREADY_USED = "already-used"
    FAILED_TRANSACTION = "failed-transaction"
    NO_USDT_TRANSFER = "no-usdt-transfer"
    WRONG_RECIPIENT = "wrong-recipient"
    UNDERPAID = "underpaid"
    TOO_OLD = "too-old"
    NEVER_FOUND = "never-found"
    REJECTED = "rejected"


PENDING_REASONS = frozenset(
    {
        Reason.NOT_FOUND,
        Reason.UNCONFIRMED,
        Reason.SOURCE_UNAVAILABLE,
        Reason.SOURCES_DISAGREE,
        Reason.HELD_FOR_REVIEW,
    }
)

SENTENCES = {
    Reason.ACCEPTED: "The payment is good.",
    Reason.NOT_FOUND: "The blockchain does not show this transaction yet. "
    "A claim is asked again by itself; check that the hash is of the payment itself, whole.",
    Reason.UNCONFIRMED: "The transaction is seen but not final yet; that takes about a minute. "
    "A claim is asked again by itself.",
    Reason.SOURCE_UNAVAILABLE: "The blockchain services do not answer just now. "
    "A claim waits, and is asked again by itself; nothing has to be done.",
    Reason.SOURCES_DISAGREE: "The blockchain services do not say the same of this transaction. "
    "A claim is asked again by itself; if it stays so, look at the transaction by hand.",
    Reason.HELD_FOR_REVIEW: "The payment is good, but the sender is marked as risky. "
    "An admin decides: payments approve or payments reject.",
    Reason.MALFORMED_HASH: NO_HASH,
    Reason.ALREADY_USED: "Transaction hash already used for subscription. "
    "Each payment buys once; send the hash of another payment.",
    Reason.FAILED_TRANSACTION: "The transaction failed on the blockchain, so no money moved. "
    "Pay again and send the new hash.",
    Reason.NO_USDT_TRANSFER: "The transaction moved no genuine TRC-20 USDT. "
    "Pay in USDT on the TRON network and send that hash.",
    Reason.WRONG_RECIPIENT: "The transaction moved USDT, but none to our wallet. Compare the whole "
    "address, never copy it from the history; contact the wallet's owner for this payment.",
    Reason.UNDERPAID: "The payment is smaller than the plan's price. "
    "Choose a plan it pays for, or ask an admin for help.",
    Reason.TOO_OLD: "The payment was made too long before it was claimed. "
    "Ask an admin for help if it is yours and was never used.",
    Reason.REJECTED: "An admin looked at this payment and refused it. "
    "Ask them for the reason, or send the hash of another payment.",
    Reason.NEVER_FOUND: "The blockchain never showed this transaction. "
    "If money left your wallet, copy the hash again and send it once more.",
}


@dataclass(frozen=True)
class Expectation:
    """What a payment has to be. Amounts in micro-USDT, addresses in base58check."""

    wallet: str
    contract: str
    price: int = 1
    tolerance: int = 0
    max_age: timedelta = timedelta(hours=24)
    hold_risky: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a transaction is worth. `amount`: micro-USDT that reached the wallet."""

    reason: Reason
    detail: str
    amount: int | None = None
    sender: str | None = None
    recipient: str | None = None
    time: datetime | None = None
    source: str | None = None

    @property
    def verdict(self) -> str:
        """`accepted`, `pending` or `refused`."""
        if self.reason is Reason.ACCEPTED:
            return "accepted"
        return "pending" if self.reason in PENDING_REASONS else "refused"


def verdict_of(reason: Reason, detail: str | None = None) -> Verdict:
    """Return a verdict that rests on nothing but its reason, said in its plain sentence."""
    return Verdict(reason, detail or SENTENCES[reason])


def judge(transaction: ChainTransaction, expectation: Expectation, now: datetime) -> Verdict:
    """Given what one source says, decide what it is worth to somebody who claims it at `now`
    (UTC)."""
    genuine = [
        transfer
        for transfer in transaction.transfers
        if transfer.contract == expectation.contract and transfer.amount > 0
    ]
    paying = [transfer for transfer in genuine if transfer.recipient == expectation.wallet]
    amount = sum(transfer.amount for transfer in paying)
    reason = _reason(transaction, expectation, now, genuine, amount)
    first = next(iter(paying or genuine), None)
    return Verdict(
        reason,
        _detail(reason, expectation, amount),
        amount=amount if transaction.found else None,
        sender=first.sender if first else None,
        recipient=first.recipient if first else None,
        time=transaction.time,
        source=transaction.source,
    )


def _reason(
    transaction: ChainTransaction,
    expectation: Expectation,
    now: datetime,
    genuine: Sequence[Transfer],
    amount: int,
) -> Reason:
    if not transaction.found:
        return Reason.NOT_FOUND
    if not transaction.final or transaction.time is None:
        return Reason.UNCONFIRMED
    if not transaction.succeeded:
        return Reason.FAILED_TRANSACTION
    if not genuine:
        return Reason.NO_USDT_TRANSFER
    if not amount:
        return Reason.WRONG_RECIPIENT
    if now - transaction.time > expectation.max_age:
        return Reason.TOO_OLD
    if amount + expectation.tolerance < expectation.price:
        return Reason.UNDERPAID
    if transaction.risky and expectation.hold_risky:
        return Reason.HELD_FOR_REVIEW
    return Reason.ACCEPTED


def _detail(reason: Reason, expectation: Expectation, amount: int) -> str:
    if reason is Reason.UNDERPAID:
        return (
            f"{to_usdt(amount)} USDT arrived, the plan costs {to_usdt(expectation.price)} USDT. "
            "Choose a plan it pays for, or ask an admin for help."
        )
    return SENTENCES[reason]


def decide(
    answers: Sequence[Answer], expectation: Expectation, now: datetime, *, quorum: int = 1
) -> Verdict:
    """Given what every source says, decide. The first definite answer counts; with a quorum, that
    many must be definite and agree on success and on the amount that reached the wallet.
    """
    transactions = [answer for answer in answers if isinstance(answer, ChainTransaction)]
    definite = [judge(t, expectation, now) for t in transactions if t.definite][: max(quorum, 1)]
    if len(definite) >= quorum and definite:
        if len({_fingerprint(verdict) for verdict in definite}) > 1:
            return verdict_of(Reason.SOURCES_DISAGREE)
        held = [verdict for verdict in definite if verdict.reason is Reason.HELD_FOR_REVIEW]
        return (held or definite)[0]
    if definite:
        # The others owe an answer; what the definite one says must not decide alone.
        silent = any(isinstance(answer, Silence) for answer in answers)
        return verdict_of(Reason.SOURCE_UNAVAILABLE if silent else Reason.SOURCES_DISAGREE)
    seen = [judge(t, expectation, now) for t in transactions if t.found]
    if seen:
        return seen[0]
    if any(isinstance(answer, Silence) for answer in answers) or not transactions:
        return verdict_of(Reason.SOURCE_UNAVAILABLE)
    return verdict_of(Reason.NOT_FOUND)


def _fingerprint(verdict: Verdict) -> int | None:
    """What sources must agree on: success, and the amount (nothing moves when it failed)."""
    return None if verdict.reason is Reason.FAILED_TRANSACTION else verdict.amount
