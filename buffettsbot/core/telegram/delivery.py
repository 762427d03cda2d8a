"""The deliver pass: the outbox, drained at Telegram's speed.

One deliverer at a time, by a lease. Rows are taken in small batches, one for each chat, and sent in
parallel: at most 30 calls a second in all, one a second to a chat, 20 a minute to a group. What was
in flight when a process died is sent again, and says so: Telegram knows no idempotency key.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.messages.words import Style
from buffettsbot.core.outbox.staff import Digest
from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram import rows
from buffettsbot.core.telegram.bot import Telegram, TelegramError
from buffettsbot.core.telegram.effects import carry_out
from buffettsbot.core.telegram.outcomes import Fate, Sequel, follow
from buffettsbot.core.telegram.pacing import LONGEST_WAIT, Chats, Pacer, pause_everyone, pause_left

log = logging.getLogger(__name__)

LEASE = "deliver"
LEASE_TIME = timedelta(seconds=60)  # of the deliverer, and of each row in its hands
CALLS_TIME = timedelta(seconds=20)  # how long a row's lease has to last when its calls begin
BATCH = 30
REFILL = 10  # the next are taken while so many are under way, so that no turn is lost
WORKERS = 16
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
    report: Report = field(default_factory=lambda: Report("deliver"))
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    pacer: Pacer = field(default_factory=Pacer)
    chats: Chats = field(default_factory=Chats)
    troubles: int = 0
    is_stopped: bool = False
    cure: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Told later, so that one digest names everyone whom this run does not reach.
    digest: Digest = field(default_factory=lambda: Digest("digest-deliver", wait=LEASE_TIME))
    telling: threading.Lock = field(default_factory=threading.Lock)

    def keep_lease(self) -> bool:
        """Take or keep the lease of the one deliverer; return whether it is held."""
        now = self.clock()
        return leases.take(self.db, LEASE, holder=self.holder, now=now, until=now + LEASE_TIME)


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
    run = _Run(db, telegram, style, clock)
    now = clock()
    if pause_left(db, now) or not run.keep_lease():
        run.report.due = run.report.skipped = rows.count_due(db, now)
        return run.report
    try:
        _drain(run, limit, watch)
    finally:
        leases.release(db, LEASE, holder=run.holder)
    if run.cure is not None:
        raise NotAllowed(run.cure)
    return run.report


def _drain(run: _Run, limit: int | None, watch: Callable[[Report], None]) -> None:
    """Send batch after batch until nothing is due, the limit is reached, or the run is stopped."""
    under_way: set[Future[None]] = set()
    with ThreadPoolExecutor(WORKERS) as workers:
        while not run.is_stopped and run.keep_lease():
            size = BATCH if limit is None else min(BATCH, limit - run.report.due)
            batch = _take_batch(run, size) if size > 0 else []
            if not batch and not under_way and not _wait_for_chats(run):
                break
            run.report.due += len(batch)
            under_way |= {workers.submit(_send, run, row) for row in batch}
            enough = REFILL if batch else len(under_way) - 1  # with nothing to take, wait for one
            under_way = _finish(under_way, down_to=enough)
            watch(run.report)
        _finish(under_way, down_to=0)
        watch(run.report)


def _take_batch(run: _Run, size: int) -> Sequence[Any]:
    """Take the oldest due row of each chat that may be written to now."""
    now = run.clock()
    resting = run.chats.resting()
    batch = rows.take_due(run.db, now, until=now + LEASE_TIME, size=size, but_not=resting)
    run.chats.take(row.chat_id for row in batch)
    return batch


def _wait_for_chats(run: _Run) -> bool:
    """Wait for the next chat that may be written to again; False when nothing waits for that."""
    resting = run.chats.resting()
    waiting = rows.chats_with_due(run.db, run.clock(), resting) if resting else set()
    if not waiting:
        return False
    time.sleep(run.chats.seconds_until_free(waiting))
    return True


def _finish(under_way: set[Future[None]], *, down_to: int) -> set[Future[None]]:
    """Wait until no more than so many are under way; return those."""
    while len(under_way) > max(down_to, 0):
        finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for one in finished:
            one.result()
    return under_way


def _send(run: _Run, row: Any) -> None:
    """Carry out one row, and write down what came of it."""
    if run.is_stopped:
        rows.give_back(run.db, row)
        _skip(run, row)
        return
    try:
        outcome = _try(run, row)
    except _TakenBack:
        _skip(run, row)
        return
    run.chats.rest(row.chat_id)
    now = run.clock()
    sequel = follow(outcome, attempts=row.attempts, now=now)
    if sequel.pause:
        run.pacer.pause(sequel.pause)
        pause_everyone(run.db, now, sequel.pause)
    _note(run, sequel)
    if sequel.fate is Fate.FAILED and not row.kind.startswith("digest-"):
        _give_up(run, row, sequel)
    else:
        with run.db.begin() as session:
            rows.write_down(session, row, sequel.values)


def _try(run: _Run, row: Any) -> TelegramError | None:
    """Carry out one row; return what went wrong. Raises _TakenBack, and Unavailable when the
    database is away."""
    try:
        carry_out(run.telegram, run.style, row, turn=_turns_of(run, row))
    except TelegramError as error:
        return error
    except (_TakenBack, Unavailable):
        raise
    except Exception as error:  # noqa: BLE001 -- one row's trouble, a bug included, must not stop the others
        log.exception("message %s cannot be sent", row.id)
        return TelegramError(f"it cannot be sent ({type(error).__name__}); the log says more")
    return None


def _turns_of(run: _Run, row: Any) -> Callable[[], None]:
    """Return how this row waits for its turns. A renewal may take it back while it waits for the
    first, and another deliverer once its lease is over; what has begun is finished."""
    has_begun = False

    def take_turn() -> None:
        nonlocal has_begun
        run.pacer.turn()
        if not has_begun and not rows.is_ours(run.db, row, until=run.clock() + CALLS_TIME):
            raise _TakenBack
        has_begun = True

    return take_turn


def _skip(run: _Run, row: Any) -> None:
    """Leave a row of which nothing was done to another time."""
    run.chats.free(row.chat_id)
    with run.lock:
        run.report.skipped += 1


def _note(run: _Run, sequel: Sequel) -> None:
    """Count one try, and stop the run when the next would come to nothing, too."""
    with run.lock:
        if sequel.fate is Fate.SENT:
            run.report.done += 1
        elif sequel.fate is Fate.FAILED:
            run.report.failed += 1
        else:
            run.report.skipped += 1
        run.troubles = run.troubles + 1 if sequel.is_trouble else 0
        if sequel.cure is not None:
            run.cure = sequel.cure
            run.is_stopped = True
        if sequel.pause > LONGEST_WAIT or run.troubles >= TROUBLES_IN_A_ROW:
            run.is_stopped = True


def _give_up(run: _Run, row: Any, sequel: Sequel) -> None:
    """Write down that somebody cannot be reached, and tell the admins, in one transaction."""
    is_about_them = row.chat_id == row.payload.get("chat_id")
    person = {
        "chat_id": row.chat_id,
        "telegram_username": row.payload.get("telegram_username") if is_about_them else None,
        "error": sequel.values["error"],
    }
    with run.telling, run.db.begin() as session:
        rows.write_down(session, row, sequel.values)
        run.digest.add(session.connection(), {"failed": 1, "people": [person]}, run.clock())
