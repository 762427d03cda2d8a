"""The judge: every reason it can give, and that it never accepts what does not pay."""

import json
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import get_args

import pytest
from helpers import (
    EXPECTATION,
    FAKE_USDT,
    MINUTE,
    NOW,
    SENDER,
    STRANGER,
    USDT,
    WALLET,
    from_evidence,
    hash_of,
    not_found,
    paid,
    silence,
)
from hypothesis import example, given
from hypothesis import strategies as st

from buffettsbot.core.chain.judge import (
    PENDING_REASONS,
    SENTENCES,
    Expectation,
    Reason,
    Verdict,
    decide,
    judge,
    verdict_of,
)
from buffettsbot.core.chain.transaction import (
    Answer,
    ChainTransaction,
    Silence,
    Transfer,
    to_evidence,
)

HASH = hash_of(1)
FIFTY = replace(EXPECTATION, price=50_000_000)
OTHER = "trongrid"


def judged(transaction: ChainTransaction, expectation: Expectation = FIFTY) -> Reason:
    return judge(transaction, expectation, NOW).reason


def decided(*answers: Answer, quorum: int = 1, expectation: Expectation = FIFTY) -> Reason:
    return decide(answers, expectation, NOW, quorum=quorum).reason


def moved(*transfers: Transfer) -> ChainTransaction:
    return replace(paid(HASH), transfers=transfers)


def usdt(amount: int, to: str = WALLET, contract: str = USDT) -> Transfer:
    return Transfer(contract, SENDER, to, amount)


def test_a_good_payment_is_accepted_and_says_who_paid_what_when() -> None:
    assert judge(paid(HASH, "50"), FIFTY, NOW) == Verdict(
        Reason.ACCEPTED,
        "The payment is good.",
        amount=50_000_000,
        sender=SENDER,
        recipient=WALLET,
        time=NOW - MINUTE,
        source="tronscan",
    )


def test_unknown_to_the_chain_is_not_found() -> None:
    verdict = judge(not_found(HASH), FIFTY, NOW)
    assert (verdict.reason, verdict.verdict, verdict.amount) == (Reason.NOT_FOUND, "pending", None)


def test_a_transaction_that_is_not_final_is_undecided_even_when_it_failed() -> None:
    assert judged(paid(HASH, final=False)) is Reason.UNCONFIRMED
    assert judged(paid(HASH, final=False, succeeded=False)) is Reason.UNCONFIRMED
    assert judged(replace(paid(HASH), time=None)) is Reason.UNCONFIRMED


def test_a_failed_transaction_is_refused_with_the_full_amount_in_its_events() -> None:
    assert judged(paid(HASH, "1000", succeeded=False)) is Reason.FAILED_TRANSACTION


def test_a_transaction_without_events_moved_no_usdt() -> None:
    assert judged(moved()) is Reason.NO_USDT_TRANSFER


def test_another_contract_is_no_usdt_whatever_it_is_called() -> None:
    assert judged(paid(HASH, "1000", contract=FAKE_USDT)) is Reason.NO_USDT_TRANSFER


def test_zero_and_less_count_as_nothing() -> None:
    assert judged(moved(usdt(0))) is Reason.NO_USDT_TRANSFER
    assert judged(moved(usdt(-50_000_000))) is Reason.NO_USDT_TRANSFER
    assert judged(moved(usdt(60_000_000), usdt(-10_000_000))) is Reason.ACCEPTED


def test_usdt_for_somebody_else_went_to_the_wrong_recipient() -> None:
    verdict = judge(paid(HASH, to=STRANGER), FIFTY, NOW)
    assert (verdict.reason, verdict.amount) == (Reason.WRONG_RECIPIENT, 0)
    assert verdict.recipient == STRANGER


def test_fake_usdt_beside_real_usdt_for_somebody_else_pays_nothing() -> None:
    mixed = moved(usdt(50_000_000, contract=FAKE_USDT), usdt(50_000_000, to=STRANGER))
    assert judged(mixed) is Reason.WRONG_RECIPIENT


def test_an_address_that_differs_in_one_letters_case_is_another_address() -> None:
    assert judged(moved(usdt(50_000_000, to=WALLET.swapcase()))) is Reason.WRONG_RECIPIENT
    assert judged(moved(usdt(50_000_000, contract=USDT.lower()))) is Reason.NO_USDT_TRANSFER


def test_several_transfers_to_the_wallet_add_up() -> None:
    parts = [usdt(20_000_000), usdt(9_000_000, to=STRANGER), usdt(30_000_000)]
    verdict = judge(moved(*parts), FIFTY, NOW)
    assert (verdict.reason, verdict.amount) == (Reason.ACCEPTED, 50_000_000)


def test_one_micro_usdt_too_little_is_underpaid_and_the_detail_names_both_sums() -> None:
    verdict = judge(moved(usdt(49_999_999)), FIFTY, NOW)
    assert verdict.reason is Reason.UNDERPAID
    assert "49.999999 USDT" in verdict.detail
    assert "50 USDT" in verdict.detail


def test_the_tolerance_forgives_exactly_so_much() -> None:
    forgiving = replace(FIFTY, tolerance=1_000_000)
    assert judged(moved(usdt(49_000_000)), forgiving) is Reason.ACCEPTED
    assert judged(moved(usdt(48_999_999)), forgiving) is Reason.UNDERPAID


def test_a_tolerance_above_the_price_still_wants_some_money() -> None:
    assert judged(moved(), replace(FIFTY, tolerance=10**9)) is Reason.NO_USDT_TRANSFER
    assert judged(paid(HASH, to=STRANGER), replace(FIFTY, tolerance=10**9)) is (
        Reason.WRONG_RECIPIENT
    )


def test_exactly_at_the_highest_age_is_young_enough_and_a_moment_later_is_not() -> None:
    limit = FIFTY.max_age
    assert judged(paid(HASH, at=NOW - limit)) is Reason.ACCEPTED
    assert judged(paid(HASH, at=NOW - limit - timedelta(microseconds=1))) is Reason.TOO_OLD


def test_an_old_payment_is_too_old_before_it_is_too_small() -> None:
    assert judged(paid(HASH, "1", at=NOW - timedelta(days=9))) is Reason.TOO_OLD


def test_a_block_a_little_ahead_of_our_clock_is_no_trouble() -> None:
    assert judged(paid(HASH, at=NOW + MINUTE)) is Reason.ACCEPTED


def test_a_risky_sender_is_held_only_where_the_owner_wants_it() -> None:
    assert judged(paid(HASH, risky=True)) is Reason.ACCEPTED
    assert judged(paid(HASH, risky=True), replace(FIFTY, hold_risky=True)) is Reason.HELD_FOR_REVIEW
    assert judged(paid(HASH, "1", risky=True), replace(FIFTY, hold_risky=True)) is Reason.UNDERPAID


def test_the_first_definite_answer_decides() -> None:
    good, bad = paid(HASH), paid(HASH, "1", source=OTHER)
    assert decided(good, bad) is Reason.ACCEPTED
    assert decided(bad, good) is Reason.UNDERPAID
    assert decided(silence(), replace(good, source=OTHER)) is Reason.ACCEPTED
    assert decided(not_found(HASH), replace(good, source=OTHER)) is Reason.ACCEPTED
    assert decided(paid(HASH, "1", final=False), replace(good, source=OTHER)) is Reason.ACCEPTED


def test_silence_beside_not_found_is_not_a_no() -> None:
    assert decided(silence(), not_found(HASH, OTHER)) is Reason.SOURCE_UNAVAILABLE
    assert decided(not_found(HASH), silence(OTHER)) is Reason.SOURCE_UNAVAILABLE
    assert decided(not_found(HASH), not_found(HASH, OTHER)) is Reason.NOT_FOUND
    assert decided(silence(), silence(OTHER)) is Reason.SOURCE_UNAVAILABLE
    assert decided() is Reason.SOURCE_UNAVAILABLE


def test_what_one_source_sees_unconfirmed_is_unconfirmed() -> None:
    seen = paid(HASH, final=False, source=OTHER)
    assert decided(silence(), seen) is Reason.UNCONFIRMED
    assert decided(not_found(HASH), seen) is Reason.UNCONFIRMED


def test_a_quorum_of_two_accepts_when_both_agree() -> None:
    both = (paid(HASH), paid(HASH, source=OTHER))
    assert decided(*both, quorum=2) is Reason.ACCEPTED


@pytest.mark.parametrize(
    "second",
    [
        paid(HASH, "60", source=OTHER),
        paid(HASH, "1", source=OTHER),
        paid(HASH, succeeded=False, source=OTHER),
        paid(HASH, to=STRANGER, source=OTHER),
        paid(HASH, contract=FAKE_USDT, source=OTHER),
        paid(HASH, final=False, source=OTHER),
        not_found(HASH, OTHER),
    ],
    ids=["more", "less", "failed", "elsewhere", "fake", "open", "unknown"],
)
def test_a_quorum_of_two_that_does_not_agree_stays_undecided(second: ChainTransaction) -> None:
    assert decided(paid(HASH), second, quorum=2) is Reason.SOURCES_DISAGREE
    assert decided(second, paid(HASH), quorum=2) is Reason.SOURCES_DISAGREE


def test_a_quorum_of_two_with_one_silent_source_waits_for_it() -> None:
    assert decided(paid(HASH), silence(OTHER), quorum=2) is Reason.SOURCE_UNAVAILABLE
    assert decided(silence(), paid(HASH, source=OTHER), quorum=2) is Reason.SOURCE_UNAVAILABLE


def test_a_quorum_of_two_refuses_only_when_both_refuse() -> None:
    failed = paid(HASH, succeeded=False)
    assert decided(failed, replace(failed, source=OTHER), quorum=2) is Reason.FAILED_TRANSACTION
    assert decided(failed, silence(OTHER), quorum=2) is Reason.SOURCE_UNAVAILABLE


def test_risk_seen_by_one_of_two_sources_holds_the_payment() -> None:
    holding = replace(FIFTY, hold_risky=True)
    risky = paid(HASH, risky=True, source=OTHER)
    assert decided(paid(HASH), risky, quorum=2, expectation=holding) is Reason.HELD_FOR_REVIEW
    assert decided(risky, paid(HASH), quorum=2, expectation=holding) is Reason.HELD_FOR_REVIEW


def test_a_quorum_below_one_never_accepts_out_of_nothing() -> None:
    assert decided(quorum=0) is Reason.SOURCE_UNAVAILABLE
    assert decided(not_found(HASH), quorum=0) is Reason.NOT_FOUND


def test_every_reason_has_its_sentence_and_its_verdict() -> None:
    assert set(SENTENCES) == set(Reason)
    for reason in Reason:
        verdict = verdict_of(reason)
        assert verdict.detail == SENTENCES[reason]
        assert len(verdict.detail.split()) > 3
        assert verdict.verdict in ("accepted", "pending", "refused")
    pending = {reason for reason in Reason if verdict_of(reason).verdict == "pending"}
    assert pending == PENDING_REASONS
    assert {r for r in Reason if verdict_of(r).verdict == "accepted"} == {Reason.ACCEPTED}


# A naive model of "what pays", written from the promises and not from the code.

amounts = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([49_999_999, 50_000_000, 50_000_001, 10**12]),
    st.integers(-(2**256), 2**256),
)
transfers = st.builds(
    Transfer,
    st.sampled_from([USDT, USDT, FAKE_USDT, USDT.lower(), ""]),
    st.sampled_from([SENDER, WALLET, STRANGER]),
    st.sampled_from([WALLET, WALLET, STRANGER, SENDER, WALLET.lower(), ""]),
    amounts,
    st.integers(0, 9),
)
transactions = st.builds(
    ChainTransaction,
    st.just(HASH),
    st.sampled_from(["tronscan", OTHER]),
    found=st.sampled_from([True, True, True, False]),
    final=st.sampled_from([True, True, True, False]),
    succeeded=st.sampled_from([True, True, True, False]),
    block=st.none() | st.integers(0, 10**9),
    time=st.none() | st.timedeltas(timedelta(days=-3), timedelta(days=3)).map(lambda d: NOW + d),
    transfers=st.lists(transfers, max_size=5).map(tuple),
    risky=st.booleans(),
)
expectations = st.builds(
    Expectation,
    st.just(WALLET),
    st.just(USDT),
    price=st.integers(1, 100_000_000),
    tolerance=st.sampled_from([0, 0, 1, 1_000_000, 10**9]),
    max_age=st.sampled_from([timedelta(hours=24), timedelta(minutes=5), timedelta(days=2)]),
    hold_risky=st.booleans(),
)
answers = transactions | st.builds(Silence, st.sampled_from(["tronscan", OTHER]), st.just("away"))


def arrived(transaction: ChainTransaction) -> int:
    total = 0
    for transfer in transaction.transfers:
        genuine = transfer.contract == "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
        if genuine and transfer.recipient == WALLET and transfer.amount > 0:
            total += transfer.amount
    return total


def pays(transaction: ChainTransaction, expectation: Expectation) -> bool:
    if not (transaction.found and transaction.final and transaction.succeeded):
        return False
    if transaction.time is None or transaction.time < NOW - expectation.max_age:
        return False
    money = arrived(transaction)
    return money > 0 and money >= expectation.price - expectation.tolerance


@given(transactions, expectations)
@example(moved(usdt(10**9), usdt(-(10**9))), FIFTY)
def test_the_judge_accepts_exactly_what_pays(
    transaction: ChainTransaction, expectation: Expectation
) -> None:
    verdict = judge(transaction, expectation, NOW)
    held = transaction.risky and expectation.hold_risky
    assert (verdict.reason is Reason.ACCEPTED) == (pays(transaction, expectation) and not held)
    if verdict.reason is Reason.ACCEPTED:
        assert verdict.amount == arrived(transaction)


@given(transactions, expectations, st.randoms(use_true_random=False))
def test_the_order_of_the_transfers_changes_neither_reason_nor_amount(
    transaction: ChainTransaction, expectation: Expectation, random: Random
) -> None:
    shuffled = list(transaction.transfers)
    random.shuffle(shuffled)
    one = judge(transaction, expectation, NOW)
    other = judge(replace(transaction, transfers=tuple(shuffled)), expectation, NOW)
    assert (one.reason, one.amount) == (other.reason, other.amount)


@given(transactions, expectations, st.lists(transfers, max_size=3))
def test_transfers_that_are_not_ours_change_no_acceptance(
    transaction: ChainTransaction, expectation: Expectation, extra: list[Transfer]
) -> None:
    foreign = [t for t in extra if t.contract != USDT or t.recipient != WALLET or t.amount <= 0]
    more = replace(transaction, transfers=(*foreign, *transaction.transfers))
    one, other = judge(transaction, expectation, NOW), judge(more, expectation, NOW)
    assert (one.verdict, one.amount) == (other.verdict, other.amount)


@given(st.lists(answers, max_size=4), expectations, st.integers(1, 3))
def test_what_does_not_pay_by_enough_sources_is_never_accepted(
    said: list[Answer], expectation: Expectation, quorum: int
) -> None:
    verdict = decide(said, expectation, NOW, quorum=quorum)
    if verdict.reason is not Reason.ACCEPTED:
        return
    definite = [a for a in said if isinstance(a, ChainTransaction) and a.found and a.final]
    asked = definite[:quorum]
    assert len(asked) == quorum
    assert all(pays(transaction, expectation) for transaction in asked)
    assert len({arrived(transaction) for transaction in asked}) == 1


@given(st.lists(answers, max_size=4), expectations, st.integers(1, 3))
def test_evidence_that_was_written_down_is_judged_the_same(
    said: list[Answer], expectation: Expectation, quorum: int
) -> None:
    kept = from_evidence(json.loads(json.dumps(to_evidence(said))))
    assert decide(kept, expectation, NOW, quorum=quorum) == decide(
        said, expectation, NOW, quorum=quorum
    )


def test_an_answer_is_a_transaction_or_silence_and_nothing_else() -> None:
    assert set(get_args(Answer)) == {ChainTransaction, Silence}
