"""The deliver pass, the only one that talks to Telegram: the outbox, drained at Telegram's speed.

One deliverer at a time, by a lease. Rows are claimed in small batches, one for each chat, and sent
in parallel: at most 30 calls a second in all, one a second to a chat, 20 a minute to a group. What
was in flight when a process died is sent again, and says so: Telegram knows no idempotency key.
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update

from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.messages.words import Style
from buffettsbot.core.outbox.staff import Digest
from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram.bot import (
    Misconfigured,
    Refused,
    Telegram,
    TelegramError,
    Throttled,
    Trouble,
)
from buffettsbot.core.telegram.effects import carry_out
from buffettsbot.core.telegram.pacing import LONGEST_WAIT, Pacer, pause_everyone, pause_left

log = logging.getLogger(__name__)

LEASE = "deliver"
LEASE_TIME = timedelta(seconds=60)
CALLS_TIME = timedelta(seconds=20)  # how long the lease has to last when a row's calls begin
BATCH = 30
REFILL = 10  # the next are claimed while so many are under way, so that no turn is lost
WORKERS = 16
CHAT_SECONDS = 1.0
GROUP_SECONDS = 3.0
FIRST_RETRY = timedelta(seconds=30)
SLOWEST_RETRY = timedelta(hours=1)
MOST_ATTEMPTS = 60
TROUBLES_IN_A_ROW = 5


class _TakenBack(Exception):
    """The row is not ours any more: it was cancelled, or it waited for its turn too long. Nothing
    of it was done."""


@dataclass
class _Run:
    """One deliverer's work: what it uses, and what it has found so far."""

    db: Database
    telegram: Telegram
    style: Style
    clock: Callable[[], datetime]
    report: Report
    pacer: Pacer = field(default_factory=Pacer)
    free_at: dict[int, float] = field(default_factory=dict)
    troubles: int = 0
    stop: str | None = None
    cure: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Told later, so that one digest names everyone whom this run does not reach.
    digest: Digest = field(default_factory=lambda: Digest("digest-deliver", wait=LEASE_TIME))
    telling: threading.Lock = field(default_factory=threading.Lock)


def deliver(
    db: Database,
    telegram: Telegram,
    style: Style,
    *,
    clock: Callable[[], datetime],
    limit: int | None = None,
    watch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Send what is due, until nothing is. Safe to repeat, to race and to kill at any moment.

    `failed` counts who will never be reached, `skipped` what stays for another time. Raises
    NotAllowed, naming the cure, when the token or the bot's rights are wrong; nothing is lost then.
    """
    report = Report("deliver")
    holder = uuid.uuid4().hex
    now = clock()
    if pause_left(db, now) or not _hold(db, holder, now):
        report.due = report.skipped = count_due(db, now)
        return report
    run = _Run(db, telegram, style, clock, report)
    try:
        with ThreadPoolExecutor(WORKERS) as workers:
            under_way: set[Future[None]] = set()
            while run.stop is None and _hold(db, holder, clock()):
                size = BATCH if limit is None else min(BATCH, limit - report.due)
                batch = _claim(run, size) if size > 0 else []
                if not batch and not under_way and not _wait_for_chats(run):
                    break
                report.due += len(batch)
                under_way |= {workers.submit(_send, run, row) for row in batch}
                under_way = _finish(under_way, down_to=REFILL if batch else len(under_way) - 1)
                watch(report)
            _finish(under_way, down_to=0)
            watch(report)
    finally:
        leases.release(db, LEASE, holder=holder)
    if run.cure is not None:
        raise NotAllowed(run.cure)
    return report


def count_due(db: Database, now: datetime) -> int:
    """Return how much waits to be sent at `now`."""
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(OUTBOX).where(_due(now))) or 0


def list_due(db: Database, now: datetime, limit: int | None = None) -> list[dict[str, Any]]:
    """Return what would be sent at `now`, the oldest first; changes nothing."""
    columns = (OUTBOX.c.id, OUTBOX.c.kind, OUTBOX.c.chat_id, OUTBOX.c.attempts, OUTBOX.c.created_at)
    query = select(*columns).where(_due(now)).order_by(OUTBOX.c.id).limit(limit)
    with db.read() as session:
        return [dict(row._mapping) for row in session.execute(query)]


def _hold(db: Database, holder: str, now: datetime) -> bool:
    return leases.take(db, LEASE, holder=holder, now=now, until=now + LEASE_TIME)


def _due(now: datetime) -> Any:
    return (
        (OUTBOX.c.status == "queued")
        & (OUTBOX.c.not_before <= now)
        & or_(OUTBOX.c.leased_until.is_(None), OUTBOX.c.leased_until <= now)
    )


def _finish(under_way: set[Future[None]], *, down_to: int) -> set[Future[None]]:
    """Wait until no more than so many are under way; return those."""
    while len(under_way) > max(down_to, 0):
        finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for one in finished:
            one.result()
    return under_way


def _claim(run: _Run, size: int) -> Sequence[Any]:
    """Lease the oldest due row of each chat that may be written to now; return them, with whether
    they were in somebody's hands before."""
    now, instant = run.clock(), time.monotonic()
    with run.lock:
        resting = [chat for chat, at in run.free_at.items() if at > instant]
    first = (
        select(func.min(OUTBOX.c.id))
        .where(_due(now), OUTBOX.c.chat_id.not_in(resting))
        .group_by(OUTBOX.c.chat_id)
        .order_by(func.min(OUTBOX.c.id))
        .limit(size)
    )
    with run.db.begin() as session:
        rows = session.execute(
            select(OUTBOX).where(OUTBOX.c.id.in_(first)).order_by(OUTBOX.c.id)
        ).all()
        leased = session.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_([row.id for row in rows]), OUTBOX.c.status == "queued")
            .values(leased_until=now + LEASE_TIME, attempts=OUTBOX.c.attempts + 1)
            .returning(OUTBOX.c.id)
        ).scalars()
        ours = set(leased)
    claimed = [row for row in rows if row.id in ours]
    with run.lock:
        run.free_at |= {row.chat_id: math.inf for row in claimed}
    return claimed


def _wait_for_chats(run: _Run) -> bool:
    """Wait for the next chat that may be written to again; False when nothing waits for that."""
    now, instant = run.clock(), time.monotonic()
    resting = {chat: at for chat, at in run.free_at.items() if at > instant}
    run.free_at = resting
    if not resting:
        return False
    query = select(OUTBOX.c.chat_id).where(_due(now), OUTBOX.c.chat_id.in_(list(resting)))
    with run.db.read() as session:
        waiting = set(session.execute(query.distinct()).scalars())
    if not waiting:
        return False
    time.sleep(max(0.0, min(resting[chat] for chat in waiting) - instant))
    return True


def _send(run: _Run, row: Any) -> None:
    """Carry out one effect and write down what came of it."""
    if run.stop is not None:
        _settle(run, row, leased_until=row.leased_until, attempts=row.attempts)
        _skip(run, row)
        return
    outcome: TelegramError | None = None
    try:
        carry_out(run.telegram, run.style, row, turn=_turns(run, row))
    except _TakenBack:
        _skip(run, row)
        return
    except TelegramError as error:
        outcome = error
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 -- one row's trouble, a bug included, must not stop the others
        log.exception("message %s cannot be sent", row.id)
        outcome = TelegramError(f"it cannot be sent ({type(error).__name__}); the log says more")
    gap = CHAT_SECONDS if row.chat_id > 0 else GROUP_SECONDS
    with run.lock:
        run.free_at[row.chat_id] = time.monotonic() + gap
        _count(run, row, outcome)
    values = _after(run.clock(), row, outcome)
    if values.get("status") == "failed" and not row.kind.startswith("digest-"):
        _give_up(run, row, outcome, values)
    else:
        _settle(run, row, **values)


def _skip(run: _Run, row: Any) -> None:
    with run.lock:
        run.free_at.pop(row.chat_id, None)
        run.report.skipped += 1


def _turns(run: _Run, row: Any) -> Callable[[], None]:
    """Return how this row waits for its turns. A renewal may take it back while it waits for the
    first, and another deliverer once its lease is over; what has begun is finished."""
    begun = False

    def turn() -> None:
        nonlocal begun
        run.pacer.turn()
        if not begun:
            query = select(OUTBOX.c.id).where(
                _this(row),
                OUTBOX.c.status == "queued",
                OUTBOX.c.attempts == row.attempts + 1,
                OUTBOX.c.leased_until >= run.clock() + CALLS_TIME,
            )
            with run.db.read() as session:
                if session.scalar(query) is None:
                    raise _TakenBack
        begun = True

    return turn


def _count(run: _Run, row: Any, outcome: TelegramError | None) -> None:
    run.troubles = run.troubles + 1 if isinstance(outcome, Trouble) else 0
    if outcome is None:
        run.report.done += 1
    elif isinstance(outcome, Refused) or row.attempts + 1 >= MOST_ATTEMPTS:
        run.report.failed += 1
    else:
        run.report.skipped += 1
    if isinstance(outcome, Throttled):
        run.pacer.pause(outcome.retry_after)
        pause_everyone(run.db, run.clock(), outcome.retry_after)
        if outcome.retry_after > LONGEST_WAIT:
            run.stop = "Telegram wants a long pause"
    elif isinstance(outcome, Misconfigured):
        run.cure = run.stop = str(outcome)
    elif run.troubles >= TROUBLES_IN_A_ROW:
        run.stop = str(outcome)


def _after(now: datetime, row: Any, outcome: TelegramError | None) -> dict[str, Any]:
    """Return what becomes of a row. A lease that stays says: this may have been sent already."""
    if outcome is None:
        return {"status": "sent", "sent_at": now, "leased_until": None, "error": None}
    if isinstance(outcome, Refused) or row.attempts + 1 >= MOST_ATTEMPTS:
        return {"status": "failed", "leased_until": None, "error": str(outcome)}
    if isinstance(outcome, Throttled):
        wait = timedelta(seconds=outcome.retry_after)
        return {"not_before": now + wait, "leased_until": None, "attempts": row.attempts}
    if isinstance(outcome, Misconfigured):
        return {"leased_until": None, "attempts": row.attempts, "error": str(outcome)}
    wait = min(FIRST_RETRY * (1 << min(row.attempts, 10)), SLOWEST_RETRY)
    in_doubt = isinstance(outcome, Trouble) and outcome.sent
    return {
        "not_before": now + wait,
        "leased_until": now if in_doubt else None,
        "error": str(outcome),
    }


def _this(row: Any) -> ColumnElement[bool]:
    """By more than its number: where a backup was restored, the number may be another's."""
    return and_(OUTBOX.c.id == row.id, OUTBOX.c.key == row.key)


def _settle(run: _Run, row: Any, **values: Any) -> None:
    with run.db.begin() as session:
        session.execute(update(OUTBOX).where(_this(row)).values(**values))


def _give_up(run: _Run, row: Any, why: TelegramError | None, values: dict[str, Any]) -> None:
    """Write down that somebody cannot be reached, and tell the admins, in one transaction."""
    about_themselves = row.chat_id == row.payload.get("chat_id")
    name = row.payload.get("telegram_username") if about_themselves else None
    person = {"chat_id": row.chat_id, "telegram_username": name, "error": str(why)}
    with run.telling, run.db.begin() as session:
        session.execute(update(OUTBOX).where(_this(row)).values(**values))
        run.digest.add(session.connection(), {"failed": 1, "people": [person]}, run.clock())
