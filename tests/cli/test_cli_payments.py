"""Hashes, claims and the ledger on the command line, letter by letter as the contract has it."""

from commands import Commands, Sandbox
from contract import AUDIT_FIELDS, PAYMENT_FIELDS, VERDICT_FIELDS, is_time, now, table
from helpers import WALLET, buy, hash_of, ledger, person, rows, shop

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Payment, Subscription


def test_verify_judges_and_changes_nothing(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db, month=50, quarter=140, year=500)
    good = sandbox.pay("140.5")
    told = run("verify", f"0x{good.upper()}", "--json")
    assert (told.code, told.stderr) == (0, "")
    verdict = told.json()
    assert list(verdict) == [*VERDICT_FIELDS, "plans"]
    assert is_time(verdict.pop("time"))
    assert verdict.pop("sender").startswith("T")
    assert verdict == {
        "transaction_hash": good,
        "verdict": "accepted",
        "reason": "accepted",
        "detail": "The payment is good.",
        "amount": "140.5",
        "recipient": WALLET,
        "source": "tronscan",
        "plans": ["1 month", "3 months"],
    }
    shown = run("verify", f"https://tronscan.org/#/transaction/{good}")
    assert shown.code == 0
    assert shown.stderr == "accepted: The payment is good.\n"
    assert "amount    140.5 USDT\n" in shown.stdout
    assert "pays for  1 month, 3 months\n" in shown.stdout

    small = run.inside("verify", good, "--plan", "1 year", "--json")
    assert (small.code, small.json()["reason"], small.json()["plans"]) == (4, "underpaid", [])
    malformed = run.inside("verify", good[1:], "--json")
    assert (malformed.code, malformed.json()["reason"]) == (4, "malformed-hash")
    assert malformed.json()["transaction_hash"] is None
    unknown = run("verify", hash_of(1), "--json")
    assert (unknown.code, unknown.json()["reason"]) == (5, "not-found")
    with sandbox.away():
        away = run.inside("verify", good)
    assert away.refused(5, "pending (source-unavailable): The blockchain services do not answer")
    assert rows(db, Payment) == rows(db, Subscription) == []


def test_a_claim_sells_once(real: Commands, db: Database, sandbox: Sandbox) -> None:
    run = real
    shop(db)
    person(db, 7, "ann")
    person(db, 8, "bob")
    good = sandbox.pay(50)
    sold = run("subscribers", "claim", "@ANN", "1 month", good, "--json")
    assert (sold.code, sold.stderr) == (0, "")
    claim = sold.json()
    assert list(claim) == [
        *VERDICT_FIELDS,
        "customer",
        "plan",
        "start_date",
        "end_date",
        "retry_after",
    ]
    assert is_time(claim["start_date"])
    assert is_time(claim["end_date"])
    assert (claim["customer"], claim["amount"], claim["retry_after"]) == (7, "50", None)
    said = run("subscribers", "claim", "7", "1month", f"0x{good.upper()}")
    assert said.refused(0, "accepted: The payment is good.", "The membership runs until ")

    other = run("subscribers", "claim", "bob", "1 month", good, "--json")
    assert (other.code, other.json()["reason"]) == (4, "already-used")
    used = run.inside("verify", good, "--json")
    assert (used.code, used.json()["verdict"], used.json()["reason"]) == (
        4,
        "refused",
        "already-used",
    )
    waiting = run("subscribers", "claim", "bob", "1 month", hash_of(5), "--json")
    assert (waiting.code, waiting.json()["reason"]) == (5, "not-found")
    assert 1 <= waiting.json()["retry_after"] <= 30
    assert run.inside("subscribers", "claim", "nobody", "1 month", good).refused(
        4, "No user 'nobody'"
    )
    assert run.inside("subscribers", "claim", "ann", "1 year", good).refused(4, "plans list")
    assert len(rows(db, Subscription)) == 1


def test_a_hash_is_spelled_in_many_ways(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    person(db, 7, "ann")
    good = sandbox.pay(50)
    for spelling in (
        good,
        good.upper(),
        f"0x{good}",
        f"0X{good.upper()}",
        f"  {good}\n",
        f"https://tronscan.org/#/transaction/{good}",
        f"https://tronscan.org/#/transaction/{good.upper()}?lang=ru",
        f"https://nile.tronscan.org/#/transaction/{good}",
    ):
        claimed = run.inside("subscribers", "claim", "ann", "1 month", spelling, "--json").json()
        assert claimed["transaction_hash"] == good, spelling
        judged = run.inside("verify", spelling, "--json").json()
        assert (judged["transaction_hash"], judged["reason"]) == (good, "already-used"), spelling
        assert run.inside("payments", "show", spelling, "--json").json()["status"] == "accepted"
    assert len(ledger(db)) == 1


def test_the_ledger_is_listed_and_shown(run: Commands, db: Database) -> None:
    assert run.inside("payments", "list").refused(
        0, "No payment matches", "buffettsbot subscribers claim"
    )
    shop(db)
    person(db, 7, "ann")
    person(db, 8, "bob")
    buy(db, hash_of(1), now=now(), usdt="50.25")
    buy(db, hash_of(1), who=8, now=now())
    listed = run("payments", "list", "--json")
    assert (listed.code, listed.stderr) == (0, "")
    stranger, ann = listed.json()
    assert list(ann) == list(stranger) == PAYMENT_FIELDS
    for name in ("paid_at", "claimed_at", "decided_at", "period_start", "period_end"):
        assert is_time(ann[name]), name
    assert (ann["amount"], ann["price"], ann["plan"]) == ("50.25", 50, "1 month")
    assert (stranger["status"], stranger["reason"], stranger["amount"]) == (
        "refused",
        "already-used",
        None,
    )
    as_csv = run("payments", "list", "--csv")
    assert as_csv.stdout.splitlines()[0] == ",".join(PAYMENT_FIELDS)
    assert [row["amount"] for row in table(as_csv.stdout)] == ["", "50.25"]
    filtered = run.inside("payments", "list", "--status", "refused", "--json").json()
    assert filtered == [stranger]
    assert hash_of(1) in run.inside("payments", "list").stdout

    link = f"https://tronscan.org/#/transaction/{hash_of(1)}"
    detail = run("payments", "show", link, "--json").json()
    assert detail == ann | {"other_claims": [stranger]}
    shown = run("payments", "show", hash_of(1), "--evidence")
    assert shown.stderr == ""
    assert "status       accepted\n" in shown.stdout
    assert "other claim  @bob, 1 month: refused (already-used)\n" in shown.stdout
    assert '"evidence": [' in shown.stdout
    evidence = run.inside("payments", "show", hash_of(1), "--evidence", "--json").json()["evidence"]
    assert evidence[0]["transfers"][0]["amount"] == 50_250_000
    unclaimed = run.inside("payments", "show", hash_of(2), "--json")
    assert unclaimed.refused(4)
    assert unclaimed.error()["error"] == "not-found"


def test_payments_are_filtered(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    for number in range(1, 4):
        person(db, number, f"user{number}")
    buy(db, hash_of(1), who=1, now=now())
    buy(db, hash_of(1), who=2, now=now())
    run.inside("subscribers", "claim", "3", "1 month", hash_of(3))
    for arguments, expected in {
        "": [3, 2, 1],
        "--status accepted": [1],
        "--status refused": [2],
        "--status pending": [3],
        "--status held": [],
        "--limit 2": [3, 2],
        "--status pending --limit 5": [3],
    }.items():
        listed = run.inside("payments", "list", *arguments.split(), "--json").json()
        assert [row["customer_id"] for row in listed] == expected, arguments


def test_a_person_decides_and_it_is_written_down(
    run: Commands, db: Database, sandbox: Sandbox
) -> None:
    assert run.inside("audit").refused(0, "Nobody decided anything by hand yet.")
    shop(db)
    for number in (7, 8):
        person(db, number, f"user{number}")
        waiting = run.inside("subscribers", "claim", str(number), "1 month", hash_of(number))
        assert waiting.code == 5
    for verb, command in (
        ("Accept", ["approve", hash_of(7)]),
        ("Refuse", ["reject", hash_of(8), "--reason", "=not paid"]),
    ):
        asked = run.inside("payments", *command).refused(4, "Nobody answered")
        what = f"{verb} the payment of @user{command[1][-1]} for 1 month at 50 USDT: "
        assert asked.startswith(f"{what}pending (not-found)? [y/N]")
    assert [payment.status for payment in ledger(db)] == ["pending", "pending"]
    approved = run("payments", "approve", hash_of(7).upper(), "--yes", "--json").json()
    assert list(approved) == PAYMENT_FIELDS
    assert approved["status"] == "accepted"
    rejected = run("payments", "reject", hash_of(8), "--reason", "=not paid", "--yes")
    assert rejected.refused(0, "The payment is refused.")
    again = run.inside("payments", "reject", hash_of(7), "--reason", "x", "--yes", "--json")
    assert again.refused(4)
    assert set(again.error()) == {"error", "message"}
    run.inside("payments", "reject", hash_of(7), "--yes").refused(2, "--reason")

    entries = run("audit", "--json").json()
    assert [list(entry) for entry in entries] == [AUDIT_FIELDS] * 4
    assert [entry["action"].split()[-1] for entry in entries] == [
        *("reject", "approve", "claim", "claim")
    ]
    assert all(is_time(entry["at"]) and entry["actor"] for entry in entries)
    assert "=not paid" in entries[0]["detail"]
    assert run.inside("audit", "--limit", "1", "--json").json() == entries[:1]
    rows_ = table(run.inside("audit", "--csv").stdout)
    assert [row["id"] for row in rows_] == [str(entry["id"]) for entry in entries]
    assert not rows_[0]["detail"].startswith("=")
