"""Memberships without a payment, granted and revoked by an admin, on both databases."""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from commands import Commands, InsideCommands
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    clean_env,
    fake_chain,
    hash_of,
    in_parallel,
    ledger,
    member,
    membership,
    person,
    queued,
    rows,
    shop,
    staff,
    user,
)
from serving import bot_of, hosting
from sqlalchemy import update

from buffettsbot.core.errors import Conflict, Invalid, NoMembership, NotAllowed, NotFound
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import grants, notices
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.grants import Granted
from buffettsbot.core.members.memberships import running_member
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.messages.render import render
from buffettsbot.core.messages.words import Style
from buffettsbot.core.offers import plans
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.audit import By, list_audit
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit, Outbox, Plan, Subscription, TelegramUser

DETAIL = re.compile(r"^(.*) \((\S+) days?, (\S+) to (\S+), (grant-[0-9a-f]{16})\)$")


def grant(db: Database, days: int | None = None, *, now: datetime = NOW, **more: Any) -> Granted:
    told: dict[str, Any] = {"person": 7, "reason": "a gift", "by": By("olga", now)} | more
    return grants.grant(db, days=days, **told)


def revoke(db: Database, *, now: datetime = NOW, group: bool = False) -> None:
    seen = running_member(db, 7, now=now)
    grants.revoke(db, member=seen, reason="rude", by=By("olga", now), group=group)


def period(db: Database) -> str:
    names = {plan.id: plan.period for plan in rows(db, Plan)}
    return str(names[membership(db).plan_id])


# Granting


def test_a_first_grant_begins_a_membership_and_everyone_hears(db: Database) -> None:
    staff(db, 900, 901)
    person(db)
    shop(db)
    granted = grant(db, 10)
    standing = membership(db)
    assert (standing.start_date, standing.end_date) == (NOW, NOW + 10 * DAY)
    assert (standing.duration, standing.expired_at) == (10 * 86400, None)
    assert standing.transaction_hash == granted.transaction_hash
    assert queued(db) == ["welcome", "admin-add", "admin-add"]
    assert ledger(db) == []


def test_a_first_grant_takes_the_longest_plan_that_it_covers(db: Database) -> None:
    shop(db, month=50, quarter=140, half=260, year=480)
    plans.retire_plan(db, period="6 months")
    wanted = {1: "1 month", 30: "1 month", 89: "1 month", 90: "3 months", 364: "3 months"}
    for days, name in (wanted | {365: "1 year", grants.MOST_DAYS: "1 year"}).items():
        person(db, 1000 + days, None)
        grant(db, days, person=1000 + days)
        (found,) = [s for s in rows(db, Subscription) if s.customer_id == 1000 + days]
        assert {p.id: p.period for p in rows(db, Plan)}[found.plan_id] == name, days


def test_without_anything_on_sale_a_first_grant_says_what_to_do(db: Database) -> None:
    person(db)
    with pytest.raises(NotFound, match="buffettsbot plans create"):
        grant(db, 10)
    with pytest.raises(NotFound, match="is known"):
        grant(db, 10, person="nobody")
    assert rows(db, Subscription) + rows(db, Outbox) + rows(db, Audit) == []


def test_a_grant_adds_to_what_runs_and_leaves_the_ledger_alone(db: Database) -> None:
    member(db)
    plans.retire_plan(db, period="1 month")
    before = ledger(db)
    granted = grant(db, 400, now=NOW + DAY)
    assert membership(db).end_date == NOW + 430 * DAY
    assert (granted.start_date, granted.end_date) == (NOW + 30 * DAY, NOW + 430 * DAY)
    assert membership(db).start_date == NOW + DAY
    assert period(db) == "1 month"  # its own, though it is off sale
    assert queued(db, 7) == ["welcome", "renewal"]
    assert ledger(db) == before


def test_a_payment_stays_used_up_after_a_grant_and_a_revocation(db: Database) -> None:
    first = member(db)
    person(db, 8, "ben")
    grant(db, 10, now=NOW + DAY)
    for _ in range(2):
        assert buy(db, hash_of(7), who=8).verdict.reason == "already-used"
        again = buy(db, hash_of(7))
        assert (again.verdict.verdict, again.end_date) == ("accepted", first.end_date)
        if membership(db).expired_at is None:
            revoke(db, now=NOW + 2 * DAY)
    assert membership(db).expired_at == NOW + 2 * DAY


def test_a_grant_after_the_end_begins_now_and_takes_back_the_farewell(db: Database) -> None:
    member(db)
    late = NOW + 31 * DAY
    expire(db, now=late, guard=1, group=True)
    grant(db, 5, now=late + MINUTE)
    assert membership(db).end_date == late + MINUTE + 5 * DAY
    assert membership(db).expired_at is None
    standing = {o.kind: o.status for o in rows(db, Outbox) if o.chat_id == 7}
    assert standing == {"welcome": "queued", "expired": "cancelled", "remove": "cancelled"}


def test_until_is_the_very_moment_and_never_shortens(db: Database) -> None:
    member(db)
    end = NOW + 30 * DAY
    for until in (NOW + DAY, end - MINUTE, end):
        with pytest.raises(NotAllowed, match=r"until 31 Mar 2026 12:00 UTC .* revoke USER"):
            grant(db, until=until)
    for until in (NOW - DAY, NOW, NOW + timedelta(days=grants.MOST_DAYS, seconds=1)):
        with pytest.raises(Invalid, match="after now"):
            grant(db, until=until)
    for days in (0, -1, grants.MOST_DAYS + 1):
        with pytest.raises(Invalid, match="from 1 to"):
            grant(db, days)
    assert membership(db).end_date == end
    assert rows(db, Audit) == []
    grant(db, until=end + 36 * timedelta(hours=1))
    assert membership(db).end_date == end + 36 * timedelta(hours=1)
    assert membership(db).duration == 36 * 3600
    late = end + 10 * DAY
    grant(db, until=late + DAY, now=late)
    assert membership(db).end_date == late + DAY


def test_the_same_grant_twice_is_two_grants_and_both_are_told(db: Database) -> None:
    staff(db, 900)
    person(db)
    shop(db)
    grant(db, 10)
    grant(db, 10)
    assert membership(db).end_date == NOW + 20 * DAY
    assert queued(db, 7) == ["welcome", "renewal"]
    grant(db, 10)
    assert queued(db, 7) == ["welcome", "renewal", "renewal"]
    assert queued(db, 900) == ["admin-add", "admin-keep", "admin-keep"]


def test_the_audit_log_explains_every_granted_day(db: Database) -> None:
    member(db)
    grant(db, 10, reason="won (twice) a prize")
    grant(db, until=NOW + 45 * DAY + timedelta(microseconds=1))
    second, first = list_audit(db)
    for entry, days, start, end in (
        (first, 10, NOW + 30 * DAY, NOW + 40 * DAY),
        (second, 5, NOW + 40 * DAY, membership(db).end_date),
    ):
        assert (entry.actor, entry.action, entry.subject) == ("olga", "subscribers grant", "7")
        found = DETAIL.match(entry.detail)
        assert found, entry.detail
        assert float(found[2]) == days
        assert [datetime.fromisoformat(found[n]) for n in (3, 4)] == [start, end]
    assert DETAIL.sub(r"\1", first.detail) == "won (twice) a prize"
    assert DETAIL.sub(r"\5", second.detail) == membership(db).transaction_hash


def test_grants_payments_and_expiry_that_race_lose_no_day(db: Database) -> None:
    member(db)
    moment = NOW + 30 * DAY + MINUTE

    def work(number: int) -> object:
        if number == 0:
            return buy(db, hash_of(5000), now=moment)
        if number == 1:
            return expire(db, now=moment, guard=1, group=False)
        return grant(db, 1, now=moment)

    results = in_parallel(8, work)
    assert [r for r in results if isinstance(r, Exception)] == []
    assert membership(db).end_date == moment + (30 + 6) * DAY
    assert len(list(list_audit(db))) == 6


@pytest.mark.parametrize("language", ["en", "ru"])
def test_what_is_said_of_a_grant_mentions_no_payment(db: Database, language: str) -> None:
    staff(db, 900)
    person(db, 7, "ann", first_name="Ann")
    shop(db)
    style = Style(language, ZoneInfo("UTC"), "The Club", None, "https://tronscan.org/#/")
    grant(db, 5)
    remind(db, now=NOW + MINUTE, days=(7,))
    expire(db, now=NOW + 5 * DAY, guard=1, group=False)
    grant(db, 5, now=NOW + 5 * DAY)
    grant(db, 5, now=NOW + 5 * DAY)
    said = {o.kind: render(o.kind, o.payload, style).text for o in rows(db, Outbox)}
    assert set(said) >= {"welcome", "renewal", "expired", "reminder", "reminder-details"}
    assert set(said) >= {"admin-add", "admin-keep", "admin-delete"}
    word = {"en": "by hand, without a payment", "ru": "вручную, без оплаты"}[language]
    for kind, text in said.items():
        assert (word in text) == (kind in ("admin-add", "admin-keep", "admin-delete")), kind
        plain = text.replace(word, "")
        for wrong in ("tronscan", "USDT", "grant-", "Plan:", "Тариф:", "ayment", "латёж", "${"):
            assert wrong not in plain, (kind, plain)


# Revoking


def test_a_revocation_ends_it_now_as_expiry_would(db: Database) -> None:
    staff(db, 900)
    member(db)
    with db.begin() as session:
        session.execute(update(TelegramUser).values(at_private_group=True))
    remind(db, now=NOW + 25 * DAY, days=(7,))
    moment = NOW + 26 * DAY
    revoke(db, now=moment, group=True)
    standing = membership(db)
    assert (standing.end_date, standing.expired_at) == (moment, moment)
    assert user(db, 7).at_private_group is False
    assert user(db, 900).at_private_group is True
    last = {(o.kind, o.chat_id): (o.status, o.payload) for o in rows(db, Outbox)}
    assert {key for key, (status, _) in last.items() if status == "queued"} == {
        ("admin-add", 900),
        ("digest-remind", 900),
        ("remove", 7),
        ("expired", 7),
        ("admin-delete", 900),
    }
    told = last[("admin-delete", 900)][1]
    assert bool(told["by_itself"]) is True
    assert datetime.fromisoformat(told["end_date"]) == moment
    (entry,) = list_audit(db)
    assert (entry.actor, entry.action, entry.subject) == ("olga", "subscribers revoke", "7")
    assert entry.detail == (
        f"rude (ended 2026-03-27T12:00:00Z, not 2026-03-31T12:00:00Z, {hash_of(7)})"
    )
    assert expire(db, now=moment + 9 * DAY, guard=1, group=True).done == 0
    assert remind(db, now=moment, days=(7,)).done == 0
    buy(db, hash_of(60), now=moment + DAY)
    assert membership(db).end_date == moment + 31 * DAY


def test_without_a_group_the_admins_remove_by_hand(db: Database) -> None:
    staff(db, 900)
    member(db)
    revoke(db, now=NOW + DAY)
    assert "remove" not in queued(db)
    (told,) = [o.payload for o in rows(db, Outbox) if o.kind == "admin-delete"]
    assert bool(told["by_itself"]) is False


def test_only_what_runs_is_revoked(db: Database) -> None:
    member(db)
    seen = running_member(db, 7, now=NOW)
    for change in (
        lambda: expire(db, now=NOW + 30 * DAY, guard=1, group=False),
        lambda: None,  # its time is up, and nobody has looked
    ):
        change()
        with pytest.raises(NoMembership, match="no membership that runs"):
            moment = By("olga", NOW + 30 * DAY)
            grants.revoke(db, member=seen, reason="late", by=moment, group=False)
    assert rows(db, Audit) == []


def test_what_was_renewed_since_it_was_seen_is_not_revoked(db: Database) -> None:
    member(db)
    seen = running_member(db, 7, now=NOW)
    buy(db, hash_of(60), now=NOW + MINUTE)
    with pytest.raises(Conflict, match="changed by others"):
        grants.revoke(db, member=seen, reason="rude", by=By("olga", NOW + DAY), group=False)
    assert membership(db).end_date == NOW + 60 * DAY
    assert "expired" not in queued(db)


def test_of_many_revocations_one_counts(db: Database) -> None:
    member(db)
    seen = running_member(db, 7, now=NOW)

    def work(number: int) -> None:
        by = By("olga", NOW + DAY + number * MINUTE)
        grants.revoke(db, member=seen, reason="rude", by=by, group=False)

    results = in_parallel(4, work)
    assert results.count(None) == 1
    assert all(isinstance(r, NoMembership) for r in results if r is not None)
    assert queued(db, 7).count("expired") == len(list(list_audit(db))) == 1


def test_a_clock_that_runs_behind_revokes_too(db: Database) -> None:
    member(db)
    revoke(db, now=NOW - MINUTE)
    standing = membership(db)
    assert standing.expired_at == NOW - MINUTE
    assert standing.end_date == NOW + timedelta(seconds=1)


# The command line and the API


@pytest.fixture
def run(database_url: str) -> Commands:
    """Real processes on SQLite; on PostgreSQL, which costs the time twice, in this process."""
    kind = InsideCommands if database_url.startswith("postgresql") else Commands
    return kind(database_url, timezone="Europe/Berlin")


def test_an_admin_grants_and_revokes(run: Commands, db: Database) -> None:
    person(db, 7, "ann")
    shop(db)
    given = run("subscribers", "grant", "@ANN", "--days", "10", "--reason", "prize", "--json")
    row = given.json()
    assert (given.stderr, row["chat_id"], row["status"]) == ("", 7, "active")
    assert row["transaction_hash"].startswith("grant-")
    more = ["subscribers", "grant", "7", "--until", "2199-12-31T00:00", "--reason", "forever"]
    run.inside(*more).refused(4, "at most 3660 days")
    end = f"{row['end_date'][:4]}-12-31"
    later = [*more[:4], f"{int(end[:4]) + 1}-12-31T00:00", *more[5:]]
    run.inside(*later).refused(0, f"@ann now runs until 31 Dec {int(end[:4]) + 1} 00:00.")
    (listed,) = run.inside("subscribers", "list", "--json").json()
    assert listed["end_date"] == f"{int(end[:4]) + 1}-12-30T23:00:00Z"
    assert " granted " in run.inside("subscribers", "list").stdout
    assert "1 month (granted)" in run.inside("subscribers", "show", "ann").stdout
    assert run.inside("payments", "list", "--json").json() == []

    stop = ["subscribers", "revoke", "ann", "--reason", "rude"]
    asked = run.inside(*stop).refused(4, "[y/N]", "Nobody answered")
    assert f"@ann, which runs until 31 Dec {int(end[:4]) + 1} 00:00, now?" in asked
    assert "not decided" not in asked
    wanted = {"person": 7, "period": "1 month", "transaction_hash": hash_of(1)}
    claim(db, fake_chain({}), EXPECTATION, **wanted, now=NOW)  # type: ignore[arg-type]
    assert "A payment of theirs is not decided yet" in run.inside(*stop).refused(4)
    ended = run(*stop, "--yes", "--json")
    assert ended.json()["status"] == "expired"
    assert "not decided yet" in ended.stderr
    run.inside(*stop, "--yes").refused(4, "no membership that runs")
    assert [entry.action for entry in list_audit(db)] == [
        "subscribers revoke",
        "subscribers grant",
        "subscribers grant",
    ]


def test_the_bot_sees_what_was_granted(database_url: str, db: Database) -> None:
    person(db, 7, "ann")
    shop(db)
    with hosting(clean_env(database_url)) as host, bot_of(host.url) as bot:
        granted = grant(db, 10, now=host.app.now())
        seen = bot.get("/api/v1/subscriptions/", telegram_username="ann")
        assert seen.status_code == 200
        assert seen.json() | {"start_date": "", "end_date": ""} == {
            "customer": "ann",
            "plan": "1 month",
            "price": 50,
            "transaction_hash": granted.transaction_hash,
            "start_date": "",
            "end_date": "",
        }
        revoke(db, now=host.app.now())
        gone = bot.get("/api/v1/subscriptions/", telegram_username="ann")
        assert (gone.status_code, gone.json()["message"]) == (404, "Subscription not found")


def test_what_makes_no_sense_is_refused_and_changes_nothing(run: Commands, db: Database) -> None:
    member(db)
    before = membership(db)
    ask = ["subscribers", "grant", "ann", "--reason", "x"]
    for bad in ([], ["--days", "1", "--until", "2199-01-01"]):
        run.inside(*ask, *bad).refused(2, "choose one of them")
    for days in ("0", "-1", "3661", "1.5", "ten"):
        run.inside(*ask, "--days", days).refused(2, "--days")
    for until in ("", "soon", "2026-13-01", "9999-12-31T23:59:59-14:00"):
        run.inside(*ask, "--until", until).refused(2, "'--until'")
    for reason in ("", "  ", "x" * 501, "\udcff"):
        for command in (["grant", "ann", "--days", "1"], ["revoke", "ann", "--yes"]):
            run.inside("subscribers", *command, "--reason", reason).refused(2, "'--reason'")
    run.inside("subscribers", "grant", "ann", "--days", "1").refused(2, "--reason")
    assert membership(db) == before
    assert rows(db, Audit) == []


def test_a_revocation_takes_back_every_invitation(db: Database) -> None:
    member(db)
    with db.begin() as session:
        outbox.queue(
            session.connection(), key="invitation:7", kind="invitation", chat_id=7,
            payload={}, now=NOW,
        )  # fmt: skip
    revoke(db, now=NOW + DAY)
    inviting = {o.kind: o.status for o in rows(db, Outbox) if o.kind in notices.INVITING}
    assert inviting == {"welcome": "cancelled", "invitation": "cancelled"}
