"""What the business did is counted rightly: a small history, computed by hand, and how it is shown.

The history is lived through the real claims and passes; only what no pass makes here (an import, a
grant, a held payment) is written into the tables.
"""

import json
import os
import re
import stat
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from commands import Commands
from helpers import DAY, MINUTE, NOW, buy, hash_of, member, person, shop
from sqlalchemy import delete, insert, select, update

from buffettsbot.core.ledger.months import Month, rate
from buffettsbot.core.ledger.statistics import Statistics, collect
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, SUBSCRIPTION, TELEGRAM_USER

TOKYO = ZoneInfo("Asia/Tokyo")
SECOND = timedelta(seconds=1)
ANN, BEN, CAT, DAN, EVE, FAY, GUS, HAL, IDA, JON = range(1, 11)


def at(month: int, day: int, hour: int = 0, minute: int = 0, *, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def live(db: Database) -> None:
    """Live a winter: joined at the turn of the year, renewed, lapsed, came back, was given."""
    shop(db, month=50, year=400)
    for chat_id in range(ANN, JON + 1):
        person(db, chat_id, f"user{chat_id}")
    buy(db, hash_of(1), who=BEN, usdt="60.5", now=at(12, 31, 14, 59, year=2025))  # Tokyo: 23:59
    buy(db, hash_of(2), who=ANN, usdt="50.000001", now=at(12, 31, 15, 30, year=2025))  # Jan 1
    buy(db, hash_of(3), who=CAT, now=at(1, 5))
    buy(db, hash_of(4), who=DAN, now=at(1, 10))
    buy(db, hash_of(5), who=ANN, now=at(1, 20))  # renewed ten days early: until Mar 1, 15:30
    buy(db, hash_of(6), who=JON, now=at(1, 20, 12))
    end(db, at(1, 31))  # Ben, the day before
    refused = buy(db, hash_of(7), who=EVE, usdt="49", now=at(2, 1))
    assert refused.verdict.reason == "underpaid"
    end(db, at(2, 10))  # Cat on Feb 4, Dan on Feb 9
    buy(db, hash_of(8), who=CAT, now=at(2, 18))  # 14 days after the end, to the second
    buy(db, hash_of(9), who=BEN, now=at(2, 20))  # 20 days after: too late for a renewal
    buy(db, hash_of(10), who=GUS, period="1 year", usdt="400", now=at(2, 25))
    enter(db, FAY, hash_of(11), at(2, 25), status="held")
    enter(db, HAL, hash_of(12), at(2, 1), at(3, 3))
    enter(db, IDA, "grant-1", at(2, 20), at(3, 10))
    plans.set_price(db, period="1 month", price=55)


def end(db: Database, now: datetime) -> None:
    expire(db, now=now, guard=1.0, group=False)


def enter(
    db: Database,
    customer: int,
    transaction_hash: str,
    start: datetime,
    until: datetime | None = None,
    *,
    status: str = "accepted",
) -> None:
    """Enter what no chain vouches for: an imported or a held payment, or a grant."""
    row = {"transaction_hash": transaction_hash, "customer_id": customer, "plan_id": 1}
    with db.begin() as session:
        connection = session.connection()
        if not transaction_hash.startswith("grant-"):
            is_held = status == "held"
            payment = {
                "price": 50,
                "status": status,
                "reason": "held-for-review" if is_held else "accepted",
                "amount": 50_000_000 if is_held else None,
                "claimed_at": start,
                "decided_at": None if is_held else start,
                "period_start": None if is_held else start,
                "period_end": until,
                "evidence": [{"source": "imported"}],
                "attempts": 0,
            }
            connection.execute(insert(PAYMENT), row | payment)
        if until is not None:
            days = {"duration": int((until - start).total_seconds())}
            connection.execute(delete(SUBSCRIPTION).where(SUBSCRIPTION.c.customer_id == customer))
            membership = row | {"start_date": start, "end_date": until} | days
            connection.execute(insert(SUBSCRIPTION), membership)


def told(db: Database, zone: ZoneInfo = TOKYO, months: int = 12) -> Statistics:
    return collect(db, now=NOW, zone=zone, months=months)


def checked(found: Statistics) -> list[Month]:
    """Return the months, in which whoever joined and did not leave must be a member."""
    months = found.months
    assert sum(m.joined - m.left for m in months) == found.members == months[-1].members
    return months


def test_a_winter_is_counted_as_it_was(db: Database) -> None:
    live(db)
    found = told(db)
    assert checked(found) == [
        Month(date(2025, 12, 1), income=60_500_000, payments=1, joined=1, members=1),
        Month(
            date(2026, 1, 1),
            income=250_000_001,
            payments=5,
            joined=4,
            renewed=1,
            left=1,
            members=4,
            ended=2,
            followed=1,
        ),
        Month(
            date(2026, 2, 1),
            income=500_000_000,
            payments=3,
            joined=5,
            left=3,
            members=6,
            ended=2,
            followed=1,
            waiting=1,
        ),
        Month(date(2026, 3, 1), members=6),
    ]
    assert (found.income, found.payments, found.unknown_amounts) == (810_500_001, 9, 1)
    assert (found.plans, found.granted) == ({"1 month": 5, "1 year": 1}, 1)
    assert found.renewal_rate == 0.5
    assert [month.renewal_rate for month in found.months] == [None, 0.5, 0.5, None]


def test_a_month_is_that_of_the_zone(db: Database) -> None:
    live(db)
    december, january, *_ = checked(told(db, zone=ZoneInfo("UTC")))
    assert (december.income, december.joined) == (110_500_001, 2)
    assert (january.income, january.joined) == (200_000_000, 3)


def test_what_comes_due_stands_on_its_day_at_the_price_of_today(db: Database) -> None:
    live(db)
    due = told(db).due
    assert (due[0].day, due[-1].day) == (date(2026, 3, 1), date(2026, 3, 30))
    assert {day.day: (day.members, day.usdt) for day in due if day.members} == {
        date(2026, 3, day): (1, 55_000_000) for day in (2, 3, 10, 20, 22)
    }


def test_the_totals_are_the_same_however_many_months_are_shown(db: Database) -> None:
    live(db)
    whole, part = told(db), told(db, months=2)
    assert part.months == whole.months[-2:]
    assert part == replace(whole, months=part.months)
    assert told(db, months=1).months == whole.months[-1:]


def test_a_grant_between_two_payments_is_no_gap(db: Database) -> None:
    shop(db)
    person(db, ANN)
    buy(db, hash_of(1), who=ANN, now=at(1, 1))
    enter(db, ANN, "grant-1", at(1, 30), at(2, 24))
    assert sum(month.left for month in checked(told(db))) == 1
    buy(db, hash_of(2), who=ANN, now=at(2, 20))
    january, february, march = checked(told(db))
    assert (january.joined, january.ended, january.followed) == (1, 1, 1)
    assert (february.joined, february.renewed, february.left) == (0, 1, 0)
    assert march.members == 1


def test_whoever_was_given_a_membership_and_then_pays_joins_once(db: Database) -> None:
    shop(db)
    person(db, ANN)
    enter(db, ANN, "grant-1", at(2, 1), at(2, 24))
    assert [month.joined for month in checked(told(db))] == [1, 0]
    buy(db, hash_of(2), who=ANN, now=at(2, 20))
    assert [month.joined for month in checked(told(db))] == [1, 0]


def test_whoever_was_put_out_and_buys_again_is_one_member(db: Database) -> None:
    shop(db)
    person(db, ANN)
    buy(db, hash_of(1), who=ANN, now=at(2, 1))
    with db.begin() as session:
        put_out = {"end_date": at(2, 10), "expired_at": at(2, 10)}
        session.connection().execute(update(SUBSCRIPTION).values(put_out))
    assert [month.left for month in checked(told(db))] == [1, 0]
    buy(db, hash_of(2), who=ANN, now=at(2, 12))
    assert checked(told(db))[-1].members == 1


def test_a_hash_that_the_import_only_burnt_is_no_period(db: Database) -> None:
    shop(db)
    person(db, ANN)
    enter(db, ANN, hash_of(1), at(2, 1), at(3, 3))
    with db.begin() as session:
        session.connection().execute(update(PAYMENT).values(period_end=at(2, 1)))
    found = told(db)
    assert (found.unknown_amounts, sum(month.ended for month in found.months)) == (1, 0)


def test_a_renewal_comes_within_14_days_to_the_second(db: Database) -> None:
    shop(db)
    over = at(1, 31)
    for who in (ANN, BEN):
        person(db, who, f"user{who}")
        buy(db, hash_of(who), who=who, now=over - 30 * DAY)
    end(db, over)
    assert (counted(db, over - SECOND).ended, counted(db, over - SECOND).waiting) == (0, 0)
    assert (counted(db, over).ended, counted(db, over).waiting) == (0, 2)
    for who, late in ((ANN, timedelta(days=14)), (BEN, timedelta(days=14, seconds=1))):
        buy(db, hash_of(10 + who), who=who, now=over + late)
    last = over + timedelta(days=14) - SECOND
    assert (counted(db, last).ended, counted(db, last).waiting) == (0, 2)
    january = counted(db, over + timedelta(days=14))
    assert (january.ended, january.followed, january.waiting) == (2, 1, 0)


def counted(db: Database, now: datetime) -> Month:
    """Return January as it is seen at a moment."""
    months = collect(db, now=now, zone=ZoneInfo("UTC")).months
    return next(month for month in months if month.first == date(2026, 1, 1))


def test_at_its_end_a_membership_has_ended_and_a_renewal_just_then_is_one(db: Database) -> None:
    shop(db)
    person(db, ANN)
    buy(db, hash_of(1), who=ANN, now=at(1, 1))
    over = at(1, 31)
    seen = [collect(db, now=now, zone=TOKYO) for now in (over - SECOND, over)]
    assert [(each.members, each.months[-1].left) for each in seen] == [(1, 0), (0, 1)]
    assert [sum(day.members for day in each.due) for each in seen] == [1, 0]
    buy(db, hash_of(2), who=ANN, now=over)
    (january, *_) = checked(told(db))
    assert (january.joined, january.renewed, january.left) == (1, 1, 0)


def test_income_is_of_the_month_it_arrived_and_a_member_of_the_month_it_bought(
    db: Database,
) -> None:
    shop(db)
    person(db, ANN)
    buy(db, hash_of(1), who=ANN, now=at(2, 1))  # the money came a minute before midnight
    january, february, _ = checked(told(db, zone=ZoneInfo("UTC")))
    assert (january.income, january.payments, january.joined) == (50_000_000, 1, 0)
    assert (february.income, february.payments, february.joined) == (0, 0, 1)


def test_today_is_that_of_the_zone(db: Database) -> None:
    found = collect(db, now=at(2, 28, 15, 30), zone=TOKYO)
    assert (found.months[-1].first, found.due[0].day) == (date(2026, 3, 1), date(2026, 3, 1))


def test_grants_without_a_plan_are_members_that_bring_nothing(db: Database) -> None:
    shop(db)
    for who in (ANN, BEN):
        enter(db, person(db, who, f"user{who}"), f"grant-{who}", at(2, 1), at(3, 10))
    with db.begin() as session:
        session.connection().execute(update(SUBSCRIPTION).values(plan_id=None))
    found = told(db)
    assert (found.plans, found.granted, found.members) == ({None: 2}, 2, 2)
    assert {day.day: (day.members, day.usdt) for day in found.due if day.members} == {
        date(2026, 3, 10): (2, 0)
    }
    assert not found.is_empty


def test_those_who_end_on_one_day_bring_their_prices_together(db: Database) -> None:
    shop(db, month=50, quarter=130)
    first, last = at(3, 1, 15), at(3, 31, 15)  # midnights of Tokyo: those of 30 days, and no more
    for who, period, over in (
        (ANN, "1 month", first),
        (BEN, "3 months", first + 23 * timedelta(hours=1)),
        (CAT, "1 month", first + 23 * timedelta(hours=1)),
        (DAN, "1 month", last - DAY - SECOND),
        (EVE, "1 month", last - DAY),
        (FAY, "1 month", last),
    ):
        days = 30 if period == "1 month" else 90
        person(db, who, f"user{who}")
        buy(db, hash_of(who), who=who, period=period, usdt=130, now=over - days * DAY)
    assert {day.day.day: (day.members, day.usdt) for day in told(db).due if day.members} == {
        2: (3, 230_000_000),
        30: (1, 50_000_000),
    }


def test_an_older_period_that_was_entered_later_stands_before_the_newer(db: Database) -> None:
    shop(db)
    person(db, ANN)
    buy(db, hash_of(1), who=ANN, now=at(2, 1))
    row = {"transaction_hash": hash_of(2), "customer_id": ANN, "plan_id": 1, "price": 50}
    row |= {"status": "accepted", "reason": "accepted", "attempts": 0}
    times = {"claimed_at": at(1, 1), "decided_at": at(1, 1)}
    times |= {"period_start": at(1, 1), "period_end": at(1, 31)}
    with db.begin() as session:
        session.connection().execute(insert(PAYMENT), row | times)
    january, february, _ = checked(told(db))
    assert (january.joined, january.left, january.followed) == (1, 1, 1)
    assert (february.joined, february.left, february.followed) == (1, 0, 0)


def test_a_period_that_nobody_has_counts_for_nobody(db: Database) -> None:
    """The original kept payments of memberships that are gone; `db import-django` keeps them."""
    shop(db)
    enter(db, person(db, ANN), hash_of(1), at(1, 1), at(1, 31))
    with db.begin() as session:
        session.connection().execute(delete(SUBSCRIPTION))
    found = told(db)
    assert sum(month.joined + month.left + month.ended for month in checked(found)) == 0
    assert not found.is_empty  # a payment of unknown amount is something


def test_what_is_over_is_something_too(db: Database) -> None:
    shop(db)
    enter(db, person(db, ANN), "grant-1", at(1, 1), at(1, 31))
    found = told(db)
    assert (found.members, found.payments, found.unknown_amounts) == (0, 0, 0)
    assert not found.is_empty
    buy(db, hash_of(2), who=person(db, BEN, "ben"), now=at(1, 1))
    with db.begin() as session:
        session.connection().execute(delete(SUBSCRIPTION))
    assert not told(db).is_empty


def test_a_refused_payment_makes_nobody_a_payer(db: Database) -> None:
    shop(db)
    enter(db, person(db, ANN), "grant-1", at(2, 1), at(3, 10))
    buy(db, hash_of(1), who=ANN, usdt=1, now=at(2, 3))
    enter(db, ANN, hash_of(2), at(2, 4), status="held")
    assert [month.joined for month in checked(told(db))] == [1, 0]
    with db.begin() as session:  # a hash that the import burnt
        burnt = {
            "status": "accepted",
            "decided_at": at(2, 4),
            "period_start": at(2, 4),
            "period_end": at(2, 4),
        }
        held = PAYMENT.c.transaction_hash == hash_of(2)
        session.connection().execute(update(PAYMENT).where(held).values(burnt))
    assert [month.joined for month in checked(told(db))] == [1, 0]


def test_a_share_has_four_decimals() -> None:
    assert [rate(1, 3), rate(2, 3), rate(0, 3), rate(0, 0)] == [0.3333, 0.6667, 0.0, None]


def test_nothing_is_nothing(db: Database) -> None:
    found = told(db)
    assert found.is_empty
    assert (found.members, found.income, found.renewal_rate) == (0, 0, None)
    assert found.months == [Month(date(2026, 3, 1))]


def test_a_snapshot_sees_one_moment_and_leaves_nothing_behind(db: Database) -> None:
    names = select(TELEGRAM_USER.c.chat_id)
    with db.snapshot() as connection:
        assert connection.execute(names).all() == []
        person(db, ANN)
        assert connection.execute(names).all() == []
    with pytest.raises(LookupError), db.snapshot():
        raise LookupError
    with db.snapshot() as connection:
        assert connection.execute(names).all() == [(ANN,)]


# The command


def joined_today(db: Database) -> None:
    now = datetime.now(UTC)
    member(db, 7, "ann", now=now - 3 * MINUTE)
    enter(db, person(db, 8, "ben"), "grant-1", now - MINUTE, now + timedelta(days=3))


def test_stats_are_drawn_on_80_columns_and_on_pipes(db: Database, database_url: str) -> None:
    run = Commands(database_url)
    empty = run.inside("stats")
    assert (empty.code, empty.stdout) == (0, "")
    assert "nothing to count yet" in empty.stderr
    joined_today(db)
    if db.is_sqlite:
        screen = run.on_terminal("stats")
        assert screen.code == 0
        assert screen.widest <= 80
        assert "█" * 16 in screen.text
    piped = run.inside("stats").stdout
    assert re.search(r"^Members, .*: 2, 1 by a grant$", piped, re.MULTILINE)
    assert re.search(r"^1 month +2  █{16}$", piped, re.MULTILINE)
    assert re.search(r"^\w{3} \d{4}  1,000,000  █{16} ", piped, re.MULTILINE)
    assert "at today's prices: 50 USDT" in piped
    if db.is_sqlite:
        plain = run("stats", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
        assert "#" * 16 in plain.stdout


def test_stats_as_json_are_exact(db: Database, database_url: str) -> None:
    live(db)
    with db.begin() as session:  # more than a float can tell from its neighbours
        great = update(PAYMENT).where(PAYMENT.c.transaction_hash == hash_of(1))
        session.connection().execute(great.values(amount=9_007_199_254_740_993))
    data = Commands(database_url, timezone="Asia/Tokyo").inside("stats", "--json").json()
    assert data["income"] == "9007200004.740994"
    assert data["at"].endswith("Z")
    assert data["timezone"] == "Asia/Tokyo"
    assert set(data["months"][0]) == {
        *("month", "income", "payments", "joined", "renewed", "left", "members"),
        *("ended", "followed", "waiting", "renewal_rate"),
    }
    assert len(data["coming_due"]["days"]) == 30
    assert data["coming_due"]["usdt"] == "0"


def test_the_page_is_private_whole_and_needs_no_network(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    joined_today(db)
    run = Commands(database_url, community="<b>Ann & Ben</b>")
    file = tmp_path / "page.html"
    file.write_text("old")
    file.chmod(0o644)
    write = run if db.is_sqlite else run.inside
    written = write("stats", "--html", str(file))
    assert (written.code, written.stdout) == (0, "")
    assert str(file) in written.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [name for name in os.listdir(tmp_path) if "page" in name] == [file.name]
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg ") == 12
    assert "&lt;b&gt;Ann &amp; Ben&lt;/b&gt;" in page
    assert "<b>" not in page
    assert not re.search(r"<script|<link|<img|@import|url\(|\ssrc=|href=", page)
    fetched = set(re.findall(r"\w+:?//[^\s\"'<]+", page))
    assert fetched == {"http://www.w3.org/2000/svg"}
    assert "$" not in re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)


def test_the_page_of_nothing_can_be_made(database_url: str) -> None:
    shown = Commands(database_url).inside("stats", "--html", "-")
    assert shown.code == 0
    assert shown.stdout.startswith("<!DOCTYPE html>")
    assert shown.stdout.endswith("</html>\n")


def test_the_page_overwrites_only_files(sqlite_url: str, tmp_path: Path) -> None:
    run = Commands(sqlite_url)
    place = tmp_path / "place"
    place.mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    run.inside("stats", "--html", str(place)).refused(4, "directory", "Nothing was written")
    run.inside("stats", "--html", str(pipe)).refused(4, "no ordinary file")
    run.inside("stats", "--html", str(tmp_path / "no" / "x")).refused(5, "cannot be written")
    run.inside("stats", "--html", "").refused(2, "name a file")
    run.inside("stats", "--json", "--html", "x").refused(2)
    run.inside("stats", "--html", "x", "--json").refused(2)
    assert pipe.is_fifo()
    assert list(place.iterdir()) == []


def test_json_needs_no_plotting_library(sqlite_url: str) -> None:
    blocked = {"PYTHONPROFILEIMPORTTIME": "1"}
    shown = Commands(sqlite_url)("stats", "--json", env=blocked)
    assert json.loads(shown.stdout)["members"] == 0
    assert "sqlalchemy" in shown.stderr
    assert "pygal" not in shown.stderr
