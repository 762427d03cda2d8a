"""The audit-group pass: does the group hold whom it should, and does the database know?

Telegram gives bots no list of members, so it is asked about each person the database knows, one by
one. What is wrong is fixed through the outbox, as `expire` and the welcome do it. Removals wait
until everyone was asked, for the guard; a removal that comes late finds nobody and does no harm.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.members.expiry import is_abnormal
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import TELEGRAM_USER
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram import belonging
from buffettsbot.core.telegram.belonging import Action, Problem, judge
from buffettsbot.core.telegram.bot import Misconfigured, Telegram, TelegramError
from buffettsbot.core.telegram.group import Presence
from buffettsbot.core.telegram.roll_call import RollCall

RIGHTS = ("can_invite_users", "can_restrict_members")  # what fixing needs


@dataclass
class _Run:
    """One audit's work: what is wanted, and what it has found so far."""

    db: Database
    now: datetime
    fix: bool
    limit: int | None
    report: Report
    known: int = 0
    asked: int = 0
    present: int = 0
    leaving: list[tuple[Any, Presence, dict[str, Any]]] = field(default_factory=list)

    def may_fix(self) -> bool:
        """Whether one more may be fixed."""
        return self.fix and (self.limit is None or self.report.done < self.limit)


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
    """Ask Telegram who is in the group; return what is wrong, and with `fix` fix it.

    `due` counts what is wrong, `skipped` what is left as it is, `failed` who could not be asked
    about. `limit`: how much to fix at most; everyone is asked about all the same. `guard`: the
    share of those found in the group above which, when they are also more than 20, nobody is taken
    out unless `force`. Raises NotAllowed when the guard, the token or the bot's rights stop it,
    Unavailable when Telegram is away or wants a long pause. Safe to repeat, to race and to kill at
    any moment.
    """
    run = _Run(db, clock(), fix, limit, Report("audit-group", dry_run=not fix))
    try:
        _ask_about_everyone(run, RollCall(db, telegram, clock), watch)
    except Misconfigured as error:
        raise NotAllowed(str(error)) from None
    except TelegramError as error:
        raise Unavailable(
            f"{error}. Of {run.known} people {run.asked} were asked about; what was fixed stays. "
            "Run it again later."
        ) from None
    if fix and not force:
        _check_guard(run, guard)
    for person, presence, item in run.leaving:
        _fix(run, person, presence, item)
    return run.report


def _ask_about_everyone(run: _Run, roll_call: RollCall, watch: Callable[[int, int], None]) -> None:
    """Ask about one person after the other, and note what is wrong. Raises a TelegramError."""
    with run.db.read() as session:
        run.known = session.scalar(select(func.count()).select_from(TELEGRAM_USER)) or 0
    roll_call.begin(*(RIGHTS if run.fix else ()))
    for person, answer in roll_call.answers(run.now):
        run.asked += 1
        _note(run, person, answer)
        watch(run.asked, run.known)


def _note(run: _Run, person: Any, answer: Presence | TelegramError) -> None:
    """Write into the report what is wrong with one person; fix what need not wait."""
    if isinstance(answer, TelegramError):
        run.report.due += 1
        run.report.failed += 1
        why = str(answer)
        run.report.items.append(_item(person, None, Problem.NOT_ASKED, Action.BY_HAND, error=why))
        return
    if answer.is_in:
        run.present += 1
    wrong = judge(person, answer, run.now)
    if wrong is None:
        return
    problem, action = wrong
    item = _item(person, answer.status, problem, action)
    run.report.due += 1
    run.report.items.append(item)
    if action is Action.REMOVE:
        run.leaving.append((person, answer, item))
    else:
        _fix(run, person, answer, item)


def _item(
    person: Any, status: str | None, problem: Problem, action: Action, *, error: str | None = None
) -> dict[str, Any]:
    return {
        "chat_id": person.chat_id,
        "telegram_username": person.telegram_username,
        "end_date": person.end_date,
        "at_private_group": person.at_private_group,
        "status": status,
        "problem": problem,
        "action": action,
        "mended": False,
        "error": error,
    }


def _fix(run: _Run, person: Any, presence: Presence, item: dict[str, Any]) -> None:
    """Do what is to be done about one person, if it may be done, and count it."""
    if run.may_fix() and belonging.fix(run.db, person, presence, item["action"], now=run.now):
        item["mended"] = True
        run.report.done += 1
    else:
        run.report.skipped += 1


def _check_guard(run: _Run, guard: float) -> None:
    if is_abnormal(len(run.leaving), run.present, guard):
        raise NotAllowed(
            f"This would take {len(run.leaving)} of the {run.present} people who are known out of "
            f"the group, more than the guard of {guard:.0%} allows. Is this the right database? "
            "Look with: buffettsbot pass audit-group. "
            "If it is right: buffettsbot pass audit-group --fix --force"
        )
