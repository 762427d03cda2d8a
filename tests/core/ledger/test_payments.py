"""The ledger as it is read: every claim of every hash, and the evidence behind it."""

import pytest
from helpers import (
    EXPECTATION,
    MINUTE,
    NOW,
    SENDER,
    buy,
    fake_chain,
    from_evidence,
    hash_of,
    member,
    paid,
    person,
    shop,
)

from buffettsbot.core.errors import Invalid, NotFound
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.payments import list_payments, show_payment
from buffettsbot.core.members.users import register
from buffettsbot.core.storage import statements
from buffettsbot.core.storage.database import Database


def test_an_accepted_payment_is_shown_in_full(db: Database) -> None:
    member(db, 7, "ann")
    (entry,) = show_payment(db, hash_of(7))
    evidence = entry.pop("evidence")
    assert from_evidence(evidence) == (paid(hash_of(7), "1000000"),)
    assert entry == {
        "id": entry["id"],
        "transaction_hash": hash_of(7),
        "customer_id": 7,
        "telegram_username": "ann",
        "plan_id": entry["plan_id"],
        "plan": "1 month",
        "price": 50,
        "status": "accepted",
        "reason": "accepted",
        "amount": 10**12,
        "sender": SENDER,
        "paid_at": NOW - MINUTE,
        "claimed_at": NOW,
        "decided_at": NOW,
        "attempts": 1,
        "next_check_at": None,
        "period_start": NOW,
        "period_end": entry["period_end"],
    }


@pytest.mark.parametrize(
    "spelling",
    ["0x{}", " {} ", "https://tronscan.org/#/transaction/{}"],
    ids=["0x", "blank", "link"],
)
def test_a_payment_is_found_by_every_spelling_of_its_hash(db: Database, spelling: str) -> None:
    member(db, 255)
    found = show_payment(db, spelling.format(hash_of(255).upper()))
    assert [entry["transaction_hash"] for entry in found] == [hash_of(255)]


def test_the_claim_that_counts_stands_before_those_that_were_refused(db: Database) -> None:
    member(db, 7, "ann")
    for chat_id in (8, 9):
        person(db, chat_id, f"thief{chat_id}")
        buy(db, hash_of(7), who=chat_id)
    found = show_payment(db, hash_of(7))
    assert [(entry["customer_id"], entry["reason"]) for entry in found] == [
        (7, "accepted"),
        (9, "already-used"),
        (8, "already-used"),
    ]


def test_what_nobody_claimed_and_what_is_no_hash_are_told_apart(db: Database) -> None:
    with pytest.raises(NotFound, match="Nobody ever claimed"):
        show_payment(db, hash_of(1))
    with pytest.raises(Invalid):
        show_payment(db, "x")


def test_the_ledger_is_listed_the_newest_first_page_by_page(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 2)
    for chat_id in range(1, 6):
        member(db, chat_id, f"user{chat_id}")
    for limit in (None, 0, 1, 2, 3, 5, 9):
        listed = [entry["customer_id"] for entry in list_payments(db, limit=limit)]
        assert listed == [5, 4, 3, 2, 1][:limit]


def test_the_ledger_is_narrowed_by_status_and_by_customer(db: Database) -> None:
    shop(db, month=50, year=400)
    for chat_id in (7, 8):
        person(db, chat_id, f"user{chat_id}")
    buy(db, hash_of(1), who=7)
    buy(db, hash_of(2), who=7, usdt="1")
    buy(db, hash_of(3), who=8)
    unknown = fake_chain({})
    claim(
        db,
        unknown,
        EXPECTATION,
        person=8,
        period="1 month",
        transaction_hash=hash_of(4),
        now=NOW,
    )

    def hashes(status: str | None = None, customer_id: int | None = None) -> list[int]:
        found = list_payments(db, status=status, customer_id=customer_id)
        return [int(entry["transaction_hash"], 16) for entry in found]

    assert hashes() == [4, 3, 2, 1]
    assert hashes("accepted") == [3, 1]
    assert hashes("refused") == [2]
    assert hashes("pending") == [4]
    assert hashes("held") == []
    assert hashes(customer_id=7) == [2, 1]
    assert hashes("accepted", 8) == [3]


def test_the_ledger_survives_that_its_customer_loses_the_name(db: Database) -> None:
    member(db, 7, "ann")
    register(db, chat_id=7, telegram_username=None, now=NOW)
    assert [entry["telegram_username"] for entry in list_payments(db)] == [None]
