"""The doctor's look at the data: which passes ran, and what has waited too long."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import func, or_, select

from buffettsbot.core.health.database import check_database
from buffettsbot.core.health.findings import (
    FAILED,
    OK,
    WARNING,
    Finding,
    ago,
    counted,
    listed,
    outcome_of,
)
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.leases import held_until
from buffettsbot.core.storage.models import METADATA, OUTBOX, PAYMENT, PLAN, TELEGRAM_USER
from buffettsbot.core.telegram.delivery import LEASE, LEASE_TIME
from buffettsbot.core.telegram.pacing import PAUSE

PASS_RUN = METADATA.tables["pass_run"]

# How long after its last end a pass is late, and how long after that something is wrong: a night
# without `remind` may be a restart, an hour without `settle` is not.
LATE = {
    "settle": (timedelta(minutes=15), timedelta(hours=1)),
    "deliver": (timedelta(minutes=15), timedelta(hours=1)),
    "remind": (timedelta(hours=26), timedelta(hours=50)),
    "expire": (timedelta(hours=26), timedelta(hours=50)),
}
OUTBOX_LATE = (timedelta(minutes=15), timedelta(hours=6))
OVERDUE = timedelta(minutes=15)
RECENT = timedelta(days=7)


def check_data(db: Database, now: datetime) -> Iterator[Finding]:
    """Check the database, and unless that is wrong, what is in it; each check fails alone."""
    database = list(check_database(db))
    yield from database
    if any(finding.status == FAILED for finding in database):
        return
    for name, check in _CHECKS.items():
        yield from outcome_of(name, partial(check, db, now))


def _shop(db: Database, _now: datetime) -> Iterator[Finding]:
    with db.read() as session:
        plans = session.scalar(select(func.count()).where(PLAN.c.is_active)) or 0
        staff = session.scalar(select(func.count()).where(TELEGRAM_USER.c.is_staff)) or 0
    if plans:
        yield Finding("plans", OK, f"{counted(plans, 'plan')} on sale")
    else:
        advice = 'Put one on sale: buffettsbot plans create "1 month" 50'
        yield Finding("plans", WARNING, "nothing is on sale", advice)
    if staff:
        receivers = "1 person receives" if staff == 1 else f"{staff:,} people receive"
        yield Finding("staff", OK, f"{receivers} the notices")
    else:
        advice = "Make somebody staff: buffettsbot users promote USER"
        yield Finding("staff", WARNING, "nobody is, so nobody hears of what goes wrong", advice)


def _passes(db: Database, now: datetime) -> Iterator[Finding]:
    for name in LATE:
        yield from outcome_of(f"pass {name}", partial(_pass, db, name, now))


def _pass(db: Database, name: str, now: datetime) -> Iterator[Finding]:
    check = f"pass {name}"
    by_hand = f"Run it by hand and see: buffettsbot pass {name}"
    late, wrong = LATE[name]
    latest, ended = _last_runs(db, name)
    if latest is None and _is_new(db, now - late):
        yield Finding(check, OK, "its first time is still to come")
        return
    if latest is None:
        advice = "Enable its timer, run it from cron, or let `buffettsbot schedule` run."
        yield Finding(check, WARNING, "never ran", advice)
        return
    if ended is None:
        since = now - latest.started_at
        what = f"began {ago(since)} ago and never ended"
        report: dict[str, Any] = {}
    else:
        since = now - ended.finished_at
        what = f"ended {ago(since)} ago"
        report = ended.report or {}
    if since > late:
        if ended and latest.finished_at is None:
            what += f"; the one begun {ago(now - latest.started_at)} ago has not"
        yield Finding(check, FAILED if since > wrong else WARNING, what, by_hand)
    elif failed := report.get("failed", 0):
        failures = "See which: buffettsbot outbox list --status failed"
        advice = failures if name == "deliver" else by_hand
        yield Finding(check, WARNING, f"{what}, {failed} failed", advice)
    elif ended is None:
        yield Finding(check, OK, what)
    else:
        yield Finding(check, OK, f"{what}, {report.get('done', 0)} done")


def _last_runs(db: Database, name: str) -> tuple[Any, Any]:
    """Return the last run of a pass that began, and the last of those that ended; None for none."""
    runs = select(PASS_RUN).where(PASS_RUN.c.name == name).order_by(PASS_RUN.c.started_at.desc())
    with db.read() as session:
        latest = session.execute(runs.limit(1)).first()
        ended = session.execute(runs.where(PASS_RUN.c.finished_at.is_not(None)).limit(1)).first()
    return latest, ended


def _is_new(db: Database, since: datetime) -> bool:
    """Whether the first pass that is known of ran after this moment."""
    with db.read() as session:
        first = session.scalar(select(PASS_RUN.c.started_at).order_by(PASS_RUN.c.id).limit(1))
    return first is not None and first >= since


def _outbox(db: Database, now: datetime) -> Iterator[Finding]:
    waiting = OUTBOX.c.status == "queued"
    oldest = (
        select(OUTBOX.c.created_at, OUTBOX.c.error).where(waiting).order_by(OUTBOX.c.created_at)
    )
    failed = (OUTBOX.c.status == "failed") & (OUTBOX.c.created_at > now - RECENT)
    with db.read() as session:
        count = session.scalar(select(func.count()).where(waiting)) or 0
        first: Any = session.execute(oldest.limit(1)).first()
        unreached = session.scalar(select(func.count()).where(failed)) or 0
    age = now - first.created_at if first else timedelta(0)
    what = f"{count:,} queued, the oldest {ago(age)} old" if count else "nothing waits"
    late, wrong = OUTBOX_LATE
    if age > late:
        what += f" ({first.error.partition('. ')[0]})" if first.error else ""
        advice = "Run it by hand and see: buffettsbot pass deliver"
        yield Finding("outbox", FAILED if age > wrong else WARNING, what, advice)
    else:
        yield Finding("outbox", OK, what)
    if unreached:
        advice = "See why: buffettsbot outbox list --status failed"
        found = f"{counted(unreached, 'message')} of the last 7 days will never arrive"
        yield Finding("outbox", WARNING, found, advice)


def _payments(db: Database, now: datetime) -> Iterator[Finding]:
    """Pending payments are asked about by themselves; held ones wait for a person."""
    pending, held = (PAYMENT.c.status == status for status in ("pending", "held"))
    overdue = pending & (PAYMENT.c.next_check_at < now - OVERDUE)
    facts = select(
        func.count().filter(pending),
        func.count().filter(held),
        func.count().filter(overdue),
        func.min(PAYMENT.c.claimed_at).filter(pending),
        func.min(PAYMENT.c.claimed_at).filter(held),
    ).where(or_(pending, held))
    with db.read() as session:
        waiting, asked, forgotten, oldest, oldest_held = session.execute(facts).one()
    if forgotten:
        what = f"{forgotten:,} of {waiting:,} pending were not asked about when their time came"
        yield Finding("payments", FAILED, what, "Run it by hand and see: buffettsbot pass settle")
    elif waiting:
        yield Finding("payments", OK, f"{waiting:,} pending, the oldest for {ago(now - oldest)}")
    if asked:
        what = f"{asked:,} held for an admin, the oldest for {ago(now - oldest_held)}"
        advice = "Look: buffettsbot payments list --status held; then: payments approve, or reject"
        yield Finding("payments", WARNING, what, advice)
    if not waiting and not asked:
        yield Finding("payments", OK, "none is pending or held")


def _leases(db: Database, now: datetime) -> Iterator[Finding]:
    """A lease that ends later than any holder asks for was taken under a wrong clock."""
    held, pause = held_until(db, LEASE), held_until(db, PAUSE)
    if held is not None and held > now + 2 * LEASE_TIME:
        what = f"nobody may deliver for {ago(held - now)}: whoever took the lease has a wrong clock"
        advice = "Set the clocks of all hosts right; it frees itself when its time has come."
        yield Finding("leases", FAILED, what, advice)
    elif pause is not None and pause > now + LEASE_TIME:
        what = f"Telegram wants a pause of {ago(pause - now)}"
        yield Finding("leases", WARNING, what, "Wait: what is queued is sent afterwards.")
    else:
        names = [
            name for name, until in (("deliver", held), ("pause", pause)) if until and until > now
        ]
        yield Finding("leases", OK, f"{listed(names)} held" if names else "none is held")


_CHECKS = {
    "plans": _shop,
    "passes": _passes,
    "outbox": _outbox,
    "payments": _payments,
    "leases": _leases,
}
