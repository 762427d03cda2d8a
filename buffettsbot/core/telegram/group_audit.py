"""The audit-group pass: does the group hold whom it should, and does the database know?

Telegram gives bots no list of members, so it is asked about each person the database knows, one by
one. What is wrong is mended through the outbox, as `expire` and the welcome do it. Removals wait
until everyone was asked, for the guard; a removal that comes late finds nobody and does no harm.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import func, select

from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.members.expiry import is_abnormal
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import TELEGRAM_USER
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram import belonging, group
from buffettsbot.core.telegram.belonging import BY_HAND, INVITE, REMOVE, SET_FLAG, judged
from buffettsbot.core.telegram.bot import Misconfigured, Telegram, TelegramError, Throttled, Trouble
from buffettsbot.core.telegram.group import Presence
from buffettsbot.core.telegram.pacing import LONGEST_WAIT, Pacer, pause_everyone, pause_left

CHUNK = 60
WORKERS = 16
MOST_PAUSES = 5
TROUBLES_IN_A_ROW = 5
RIGHTS = ("can_invite_users", "can_restrict_members")  # what mending needs
NOT_ASKED = "not-asked"

Answer = TypeVar("Answer")


@dataclass
class _Run:
    """One audit's work: what it uses, and what it has found so far."""

    db: Database
    telegram: Telegram
    clock: Callable[[], datetime]
    now: datetime
    report: Report
    pacer: Pacer = field(default_factory=Pacer)
    known: int = 0
    asked: int = 0
    present: int = 0
    to_mend: float = 0
    leaving: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        """Give no turn before so many seconds have passed. Raises Throttled for too many."""
        if seconds > LONGEST_WAIT:
            raise Throttled(seconds)
        self.pacer.pause(seconds)


def audit_group(
    db: Database,
    telegram: Telegram,
    *,
    clock: Callable[[], datetime],
    guard: float,
    fix: bool = False,
    force: bool = False,
    limit: int | None = None,
    watch: Callable[[int, int], None] = lambda asked, known: None,
) -> Report:
    """Ask Telegram who is in the group; return what is wrong, and with `fix` mend it.

    `due` counts what is wrong, `skipped` what is left as it is, `failed` who could not be asked
    about. `limit`: how much to mend at most; everyone is asked about all the same. `guard`: the
    share of those found in the group above which, when they are also more than 20, nobody is taken
    out unless `force`. Raises NotAllowed when the guard, the token or the bot's rights stop it,
    Unavailable when Telegram is away or wants a long pause. Safe to repeat, to race and to kill at
    any moment.
    """
    run = _Run(db, telegram, clock, clock(), Report("audit-group", dry_run=not fix))
    if fix:
        run.to_mend = math.inf if limit is None else limit
    with db.read() as session:
        run.known = session.scalar(select(func.count()).select_from(TELEGRAM_USER)) or 0
    try:
        run.wait(pause_left(db, run.now))
        _patiently(run, lambda: group.check_rights(telegram, *(RIGHTS if fix else ())))
        for person, answer in _answers(run):
            run.asked += 1
            _note(run, person, answer)
            watch(run.asked, run.known)
    except Misconfigured as error:
        raise NotAllowed(str(error)) from None
    except TelegramError as error:
        raise Unavailable(
            f"{error}. Of {run.known} people {run.asked} were asked about; what was mended stays. "
            "Run it again later."
        ) from None
    _check_guard(run, guard, force=force or not fix)
    for person, item in run.leaving:
        _count(run, item, mended=run.to_mend > 0 and belonging.remove(db, person, now=run.now))
    return run.report


def _answers(run: _Run) -> Iterator[tuple[Any, Presence | TelegramError]]:
    """Yield each known person with what Telegram says of them, or why it says nothing."""
    after = troubles = 0
    with ThreadPoolExecutor(WORKERS) as workers:
        while True:
            chunk = belonging.people(run.db, after, CHUNK, now=run.now)
            answers = workers.map(lambda person: _ask(run, person), chunk)
            for person, answer in zip(chunk, answers, strict=True):
                troubles = troubles + 1 if isinstance(answer, Trouble) else 0
                if isinstance(answer, Trouble) and troubles >= TROUBLES_IN_A_ROW:
                    raise answer
                yield person, answer
            if len(chunk) < CHUNK:
                return
            after = chunk[-1].chat_id


def _ask(run: _Run, person: Any) -> Presence | TelegramError:
    """Return what Telegram says of one person, or what is amiss with them alone.

    Raises Misconfigured, and Throttled when the pause is too long to wait for.
    """
    try:
        return _patiently(run, lambda: group.look_up(run.telegram, person.chat_id))
    except (Misconfigured, Throttled):
        raise
    except TelegramError as error:
        return error


def _patiently(run: _Run, call: Callable[[], Answer]) -> Answer:
    """Make a call in its turn, and again after each pause that Telegram wants."""
    for _ in range(MOST_PAUSES):
        run.pacer.turn()
        try:
            return call()
        except Throttled as error:
            pause_everyone(run.db, run.clock(), error.retry_after)
            run.wait(error.retry_after)
    run.pacer.turn()
    return call()


def _note(run: _Run, person: Any, answer: Presence | TelegramError) -> None:
    """Write into the report what is wrong with one person; mend what cannot wait."""
    item = {
        "chat_id": person.chat_id,
        "telegram_username": person.telegram_username,
        "end_date": person.end_date,
        "at_private_group": person.at_private_group,
    }
    if isinstance(answer, TelegramError):
        run.report.due += 1
        run.report.failed += 1
        unknown = {"status": None, "problem": NOT_ASKED, "action": BY_HAND, "mended": False}
        run.report.items.append(item | unknown | {"error": str(answer)})
        return
    run.present += answer.is_in
    problem, action = judged(person, answer, run.now)
    if problem is None:
        return
    item |= {"status": answer.status, "problem": problem, "action": action}
    item |= {"mended": False, "error": None}
    run.report.due += 1
    run.report.items.append(item)
    if action == REMOVE:
        run.leaving.append((person, item))
        return
    mended = run.to_mend > 0 and (
        (action == INVITE and belonging.invite(run.db, person, now=run.now))
        or (action == SET_FLAG and belonging.set_flag(run.db, person, is_in=answer.is_in))
    )
    _count(run, item, mended=mended)


def _count(run: _Run, item: dict[str, Any], *, mended: bool) -> None:
    item["mended"] = mended
    run.to_mend -= mended
    run.report.done += mended
    run.report.skipped += not mended


def _check_guard(run: _Run, guard: float, *, force: bool) -> None:
    if not force and is_abnormal(len(run.leaving), run.present, guard):
        raise NotAllowed(
            f"This would take {len(run.leaving)} of the {run.present} people who are known out of "
            f"the group, more than the guard of {guard:.0%} allows. Is this the right database? "
            "Look with: buffettsbot pass audit-group. "
            "If it is right: buffettsbot pass audit-group --fix --force"
        )
