"""What the command line refuses: one sentence, the right exit code, no question before it."""

from commands import Commands, Sandbox
from contract import now
from helpers import hash_of, ledger, member, person, rows, shop

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Payment, Plan, TelegramUser


def test_nobody_is_asked_about_what_cannot_be_done(
    run: Commands, db: Database, sandbox: Sandbox
) -> None:
    member(db, 7, "ann", now=now())
    number = str(run.inside("outbox", "list", "--json").json()[0]["id"])
    asked = run.inside("outbox", "cancel", number, stdin="n\n").refused(4)
    assert asked.startswith(f"Take back message {number}, welcome for @ann? [y/N]")
    run("outbox", "cancel", number, stdin="y\n").refused(0, "(welcome) is cancelled.")
    used = ledger(db)[0].transaction_hash
    before = rows(db, Payment), rows(db, Plan)
    for arguments, words in (
        (["outbox", "cancel", "99"], "There is no message 99."),
        (["outbox", "cancel", number], f"Message {number} is cancelled"),
        (["payments", "approve", used], "pending or held"),
        (["payments", "reject", used, "--reason", "x"], "pending or held"),
        (["payments", "approve", hash_of(99)], "Nobody ever claimed this hash"),
        (["payments", "approve", "x"], "not a transaction hash"),
        (["payments", "show", "Off-chain transfer 230000000001"], "Ask the exchange"),
        (["plans", "retire", "1 year"], "No plan for 1 year is on sale"),
        (["plans", "retire", "2 years"], "There is no period '2 years'"),
        (["subscribers", "revoke", "bob", "--reason", "x"], "No user 'bob'"),
    ):
        told = run.inside(*arguments, stdin="y\n").refused(4, words)
        assert "[y/N]" not in told, arguments
    assert before == (rows(db, Payment), rows(db, Plan))
    for value in ("x", "0", "", "1.5", "٧", "9" * 30):
        run.inside("outbox", "cancel", value).refused(2, "write a message's number")
    unanswered = run.inside("plans", "retire", "1 month", "--json")
    assert "add --yes" in unanswered.error()["message"]  # and no question for a program to read
    assert run.inside("plans", "retire", "1 month", "--json", stdin="y\n").code == 0


REFUSALS: list[tuple[str, int, str]] = [
    ("plans create 1month 5", 4, "conflict"),
    ("plans create 2months 5", 4, "unknown-plan"),
    ("plans set-price 1year 5", 4, "unknown-plan"),
    ("plans set-price year 5", 4, "unknown-plan"),
    ("plans retire 1year --yes", 4, "unknown-plan"),
    ("users show nobody", 4, "unknown-user"),
    ("users show 123", 4, "unknown-user"),
    ("users promote nobody", 4, "unknown-user"),
    ("users demote 99999999999999999999", 4, "unknown-user"),
    ("users add x ann", 4, "invalid"),
    ("users add 8 not-a-name", 4, "invalid"),
    ("users add @me 42", 4, "invalid"),
    ("subscribers show nobody", 4, "unknown-user"),
    (f"subscribers claim nobody 1month {hash_of(1)}", 4, "unknown-user"),
    (f"subscribers claim ann 1year {hash_of(1)}", 4, "unknown-plan"),
    ("subscribers list --plan 5months", 4, "unknown-plan"),
    (f"payments show {hash_of(1)}", 4, "not-found"),
    ("payments show nothing", 4, "invalid"),
    (f"verify {hash_of(1)} --plan 1year", 4, "unknown-plan"),
    (f"verify {hash_of(1)} --plan 1day", 4, "unknown-plan"),
]


def test_every_refusal_is_a_sentence_for_people_and_json_for_programs(
    run: Commands, db: Database
) -> None:
    shop(db)
    person(db, 7, "ann")
    for line, code, slug in REFUSALS:
        told = run.inside(*line.split(), "--json")
        assert told.refused(code), line
        assert told.error()["error"] == slug, line
        assert list(told.error()) == ["error", "message"], line
        said = run.inside(*line.split())
        assert said.refused(code), line
        assert said.stderr == f"error: {told.error()['message']}\n", line
        assert said.stderr[:-1].count("\n") == 0, line
    assert len(rows(db, TelegramUser)) == len(rows(db, Plan)) == 1
    assert rows(db, Payment) == []


def test_wrong_usage_is_code_2(run: Commands) -> None:
    for line in (
        "nonsense",
        "plans nonsense",
        "plans list extra",
        "plans create",
        "plans list --nonsense",
        "plans list --json --csv",
        "users list --csv --json",
        "users list --limit 0",
        "users list --limit -1",
        "users list --limit many",
        f"users list --limit {10**20}",
        f"pass settle --limit {10**20}",
        "subscribers list --status nonsense",
        "subscribers list --within soon",
        "subscribers list --within 7",
        "subscribers list --within 0d",
        "subscribers list --within 999999999w",
        "subscribers list --status expired --within 7d",
        "payments list --status active",
        "pass settle --at 2030-01-01",
        "pass settle --dry-run --at tomorrow",
        "pass nonsense",
    ):
        result = run.inside(*line.split())
        assert result.refused(2, "Usage: buffettsbot", "Error: "), line
    for group in ("", "plans", "users", "subscribers", "payments", "pass", "db"):
        assert run.inside(*group.split()).refused(2, "Commands:"), group
