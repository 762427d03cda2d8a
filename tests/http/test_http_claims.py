"""POST /api/v1/subscriptions/, letter by letter, through a real socket, on both databases."""

import contextlib
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from helpers import clean_env, ledger
from serving import Bot, Host, Sandbox, bot_of, hosting, moment

from buffettsbot.core.offers import plans

ZONE = ZoneInfo("Asia/Kolkata")
ANN, BEN = 7_000_000_001, 7_000_000_002
REQUIRED = ["This field is required."]


def here(text: str) -> datetime:
    return moment(text, ZONE)


def is_about(text: str, expected: datetime) -> bool:
    return abs(here(text) - expected) < timedelta(seconds=20)


@pytest.mark.parametrize("path", ["/api/v1/subscriptions/", "/api/v1/subscriptions"])
def test_a_good_payment_buys(shop: Bot, host: Host, sandbox: Sandbox, path: str) -> None:
    paid, now = sandbox.pay(), datetime.now(UTC)
    body = {"telegram_username": "ann", "plan": "1 month", "transaction_hash": paid}
    answer = shop.post(path, body)
    assert answer.status_code == 201
    bought = answer.json()
    plan = {plan.period: plan.id for plan in plans.list_plans(host.app.db)}["1 month"]
    assert list(bought) == ["customer", "plan", "transaction_hash", "start_date", "end_date"]
    assert (bought["customer"], bought["plan"], bought["transaction_hash"]) == (ANN, plan, paid)
    assert is_about(bought["start_date"], now)
    assert here(bought["end_date"]) - here(bought["start_date"]) == timedelta(days=30)


def spellings(transaction_hash: str) -> list[str]:
    """Every way in which people hand in one hash."""
    return [
        transaction_hash,
        transaction_hash.upper(),
        f"0x{transaction_hash}",
        f"0X{transaction_hash.upper()}",
        f"  {transaction_hash}\n",
        f"https://tronscan.org/#/transaction/{transaction_hash}",
        f"https://tronscan.org/#/transaction/{transaction_hash.upper()}?lang=ru",
        f"http://www.tronscan.io/#/transaction/{transaction_hash}/",
    ]


def test_the_same_claim_again_is_answered_the_same_in_every_spelling(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay()
    bought = shop.claim(ANN, paid)
    assert shop.claim(ANN, sandbox.pay()).status_code == 201  # a renewal in between
    host.clock.ahead = timedelta(days=3)
    for spelling in spellings(paid):
        for who in (ANN, "@ANN"):
            again = shop.claim(who, spelling)
            assert (again.status_code, again.json()) == (201, bought.json())
    assert len(ledger(host.app.db)) == 2


def test_a_chat_id_may_be_its_digits_in_a_claim_and_counts_before_the_name(
    shop: Bot, sandbox: Sandbox
) -> None:
    body = {
        "chat_id": str(ANN),
        "telegram_username": "ben",
        "plan": "1 month",
        "transaction_hash": sandbox.pay(),
    }
    assert shop.post("/api/v1/subscriptions/", body).json()["customer"] == ANN


def test_a_renewal_adds_to_the_end(shop: Bot, sandbox: Sandbox) -> None:
    first = shop.claim(ANN, sandbox.pay()).json()
    second = shop.claim(ANN, sandbox.pay(amount=500), "1 year").json()
    assert here(second["end_date"]) - here(first["end_date"]) == timedelta(days=365)
    shown = shop.get("/api/v1/subscriptions/", chat_id=ANN).json()
    assert (shown["plan"], shown["price"]) == ("1 year", 500)
    assert shown["transaction_hash"] == second["transaction_hash"]
    assert shown["end_date"] == second["end_date"]


def test_a_period_is_understood_as_people_write_it(shop: Bot, sandbox: Sandbox) -> None:
    for period in ("1 Month", "1month", " 1 months "):
        assert shop.claim(ANN, sandbox.pay(), period).status_code == 201


def is_pending(answer: httpx.Response, reason: str) -> None:
    """Assert a 202 with everything the contract gives it."""
    said = answer.json()
    assert answer.status_code == 202
    expected = {"status", "success", "message", "reason", "retry_after", "amount", "price"}
    assert set(said) == expected
    assert said["price"] == 50
    assert (said["status"], said["success"], said["reason"]) == (202, False, reason)
    assert said["message"]
    if said["retry_after"] is None:
        assert "retry-after" not in answer.headers
    else:
        assert answer.headers["retry-after"] == str(said["retry_after"])
        assert 1 <= said["retry_after"] <= 60


def test_a_hash_that_is_not_found_is_pending(shop: Bot) -> None:
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")


def test_a_payment_that_is_not_final_is_pending_and_settles(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay("unconfirmed")
    is_pending(shop.claim(ANN, paid), "unconfirmed")
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 404
    sandbox.confirm(paid)
    host.clock.ahead = timedelta(seconds=40)
    assert shop.claim(ANN, paid).status_code == 201


@pytest.mark.parametrize("fault", ["500", "html", "429-in-band"])
def test_an_outage_is_pending(shop: Bot, host: Host, sandbox: Sandbox, fault: str) -> None:
    paid = sandbox.pay()
    sandbox.fail(fault)
    is_pending(shop.claim(ANN, paid), "source-unavailable")
    assert [p.status for p in ledger(host.app.db, paid)] == ["pending"]


def test_sources_that_disagree_are_pending(database_url: str, sandbox: Sandbox) -> None:
    env = clean_env(database_url, chain_quorum=2, **sandbox.settings)
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        paid = sandbox.pay(lie={"trongrid": {"amount": 5000}})
        is_pending(bot.claim(ANN, paid), "sources-disagree")


def test_tainted_money_is_held_for_review(database_url: str, sandbox: Sandbox) -> None:
    env = clean_env(database_url, hold_risky="true", **sandbox.settings)
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        answer = bot.claim(ANN, sandbox.pay("risky"))
        is_pending(answer, "held-for-review")
        assert answer.json()["retry_after"] is None


def is_refused(answer: httpx.Response, reason: str) -> str:
    """Assert a 400 with everything the contract gives it; return its detail."""
    said = answer.json()
    detail = said.pop("detail")
    assert set(said) >= {"amount", "price"}
    del said["amount"], said["price"]
    message = (
        "Transaction hash already used for subscription."
        if reason == "already-used"
        else "Transaction is not valid"
    )
    expected = {"status": 400, "success": False, "message": message, "reason": reason}
    assert (answer.status_code, said) == (400, expected)
    assert isinstance(detail, str)
    assert detail
    return detail


BAD_PAYMENTS = [
    ("failed", "failed-transaction"),
    ("out-of-energy", "failed-transaction"),
    ("fake-token", "no-usdt-transfer"),
    ("trx", "no-usdt-transfer"),
    ("trc10", "no-usdt-transfer"),
    ("zero-value", "no-usdt-transfer"),
    ("wrong-recipient", "wrong-recipient"),
    ("underpaid", "underpaid"),
    ("old", "too-old"),
]


def test_a_bad_payment_is_refused_with_its_reason(shop: Bot, host: Host, sandbox: Sandbox) -> None:
    for kind, reason in BAD_PAYMENTS:
        paid = sandbox.pay(kind)
        detail = is_refused(shop.claim(ANN, paid), reason)
        if reason == "underpaid":
            assert "49 USDT arrived, the plan costs 50 USDT." in detail
        (entry,) = ledger(host.app.db, paid)
        assert (entry.status, entry.reason) == ("refused", reason)
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 404


AMOUNTS = [
    # the payment, its reason, what arrived, the plan's price
    ("underpaid", "underpaid", "49", 50),
    ("wrong-recipient", "wrong-recipient", "0", 50),
    ("unconfirmed", "unconfirmed", "50", 50),
]


def test_amount_and_price_stand_beside_the_reason(shop: Bot, sandbox: Sandbox) -> None:
    for kind, reason, amount, price in AMOUNTS:
        paid = sandbox.pay(kind)
        for _ in range(2):  # asked, and from the ledger
            said = shop.claim(ANN, paid).json()
            assert (said["reason"], said["amount"], said["price"]) == (reason, amount, price)
    unseen = shop.claim(ANN, "ab" * 32).json()
    assert (unseen["reason"], unseen["amount"], unseen["price"]) == ("not-found", None, 50)
    for sent in ("x", "ab" * 32):
        said = shop.claim(BEN, sent).json()
        assert (said["amount"], said["price"]) == (None, None)


def test_a_customer_is_answered_in_the_owners_language(
    database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    own = tmp_path / "words.ini"
    own.write_text("[reasons]\nunconfirmed = Минутку.\n", "utf-8")
    env = clean_env(database_url, language="ru", messages_dir=str(tmp_path), **sandbox.settings)
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        bot.register(BEN)
        for kind, reason in BAD_PAYMENTS:
            detail = is_refused(bot.claim(ANN, sandbox.pay(kind)), reason)
            assert re.search("[а-я]", detail)
            assert reason not in detail
            if reason == "underpaid":
                assert detail.startswith("Пришло 49 USDT, а тариф стоит 50 USDT. ")
        waits = bot.claim(ANN, sandbox.pay("unconfirmed"))
        is_pending(waits, "unconfirmed")
        assert waits.json()["message"] == "Минутку."
        paid = sandbox.pay()
        assert bot.claim(ANN, paid).status_code == 201
        assert "Этот платёж уже использован" in is_refused(bot.claim(BEN, paid), "already-used")
        assert "Это не хеш" in is_refused(bot.claim(ANN, "x"), "malformed-hash")
        within = is_refused(bot.claim(ANN, "Off-chain transfer 230000000001"), "malformed-hash")
        assert "внутри биржи" in within
        assert bot.claim(3, paid).json() == {"message": "User not found"}


def test_a_malformed_hash_is_refused_and_not_written_down(shop: Bot, host: Host) -> None:
    for written in ("x", "0x", "f" * 63, "g" * 64, "f" * 65):
        is_refused(shop.claim(ANN, written), "malformed-hash")
    assert ledger(host.app.db) == []


def test_a_hash_is_found_in_what_people_send(shop: Bot, sandbox: Sandbox) -> None:
    paid = sandbox.pay("good")
    answer = shop.claim(ANN, f"Here it is: https://www.oklink.com/trx/tx/{paid}.")
    assert (answer.status_code, answer.json()["transaction_hash"]) == (201, paid)
    assert shop.claim(ANN, f"\u200b{paid.upper()}").text == answer.text


def test_a_transfer_within_an_exchange_gets_its_own_sentence(shop: Bot, host: Host) -> None:
    detail = is_refused(shop.claim(ANN, "Off-chain transfer 230000000001"), "malformed-hash")
    assert "ask the exchange for a withdrawal" in detail
    assert ledger(host.app.db) == []


def test_a_hash_that_never_appears_is_refused_in_the_end(shop: Bot, host: Host) -> None:
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")
    host.clock.ahead = timedelta(hours=23)
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")
    host.clock.ahead = timedelta(hours=25)
    is_refused(shop.claim(ANN, "ab" * 32), "never-found")


def test_a_used_hash_is_already_used_in_every_spelling(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay(amount=500)
    assert shop.claim(ANN, paid, "1 year").status_code == 201
    for spelling in spellings(paid):
        is_refused(shop.claim(BEN, spelling), "already-used")
        is_refused(shop.claim(ANN, spelling, "1 month"), "already-used")
    host.clock.ahead = timedelta(days=400)  # long after it has expired
    is_refused(shop.claim(BEN, paid), "already-used")
    assert shop.get("/api/v1/subscriptions/", chat_id=BEN).status_code == 404


def test_a_pending_hash_is_already_used_for_anyone_else(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay("unconfirmed")
    is_pending(shop.claim(ANN, paid), "unconfirmed")
    is_refused(shop.claim(BEN, paid), "already-used")
    is_pending(shop.claim(ANN, paid), "unconfirmed")


def test_claims_name_people_and_plans_that_exist(shop: Bot, host: Host, sandbox: Sandbox) -> None:
    paid = sandbox.pay(amount=5000)
    for who in ("nobody", 1, "a b", "\ud800"):
        answer = shop.claim(who, paid)
        assert (answer.status_code, answer.json()) == (404, {"message": "User not found"})
    plans.retire_plan(host.app.db, period="1 year")
    for period in ("3 months", "1 year", "2 months", "for ever", "\0", "1 month; --"):
        answer = shop.claim(ANN, paid, period)
        assert (answer.status_code, answer.json()) == (404, {"message": "Plan not found"})
    assert ledger(host.app.db) == []
    assert sandbox.asked() == []


def test_a_claim_needs_its_fields(shop: Bot) -> None:
    for missing in ("plan", "transaction_hash"):
        body = {"chat_id": ANN, "plan": "1 month", "transaction_hash": "ab" * 32}
        del body[missing]
        answer = shop.post("/api/v1/subscriptions/", body)
        assert (answer.status_code, answer.json()) == (400, {missing: REQUIRED})


def test_a_claim_needs_a_person(shop: Bot) -> None:
    answer = shop.post("/api/v1/subscriptions/", {"plan": "1 month", "transaction_hash": "x"})
    assert (answer.status_code, answer.json()) == (400, {"telegram_username": REQUIRED})


def test_a_claim_beyond_the_slots_is_written_down_and_pending(
    env: dict[str, str], sandbox: Sandbox
) -> None:
    with hosting(env, sandbox.wire, chain_slots=1) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        first, second = sandbox.pay(), sandbox.pay()
        sandbox.fail("timeout", "tronscan", seconds=60, hash=first)
        with contextlib.ExitStack() as stack:
            answers: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: answers.append(bot.claim(ANN, first)))
            waiting.start()
            stack.callback(waiting.join)
            stack.callback(sandbox.state.release)
            while first not in sandbox.asked():
                pass
            is_pending(bot.claim(ANN, second), "source-unavailable")
            assert second not in sandbox.asked()
        assert answers[0].status_code == 201
        assert bot.claim(ANN, second).status_code == 201
