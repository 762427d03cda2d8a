"""The original Django system moves in: its people, plans, memberships, and the hashes it used up.

Plans first, then people, then what they bought, a page at a time; see `run`. Safe to repeat
and to kill: running it again brings what is missing, and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from buffettsbot.core.from_django.oddities import Odd
from buffettsbot.core.from_django.people import bring_people, bring_plans
from buffettsbot.core.from_django.run import Run
from buffettsbot.core.from_django.sales import bring_sales
from buffettsbot.core.from_django.source import Original
from buffettsbot.core.storage.database import Database


@dataclass(frozen=True)
class Imported:
    """What an import did, or in a rehearsal would do: how many rows of each fate, and which rows
    were odd."""

    source: str
    dry_run: bool
    plans: dict[str, int]
    users: dict[str, int]
    subscriptions: dict[str, int]
    odd: list[Odd]

    @property
    def is_news(self) -> bool:
        """Whether anything was, or would be, changed."""
        fates = ("new", "renewed", "ended", "covered", "burnt")
        tables = (self.plans, self.users, self.subscriptions)
        return any(table.get(fate) for table in tables for fate in fates)


def bring_all(
    db: Database,
    original: Original,
    *,
    actor: str,
    now: datetime,
    dry_run: bool = False,
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> Imported:
    """Bring everything over that is not here yet; queue no message. `watch` hears (done, of) rows.

    Raises Unavailable when a database cannot answer, Conflict; what was brought so far stays.
    """
    run = Run(db, original.name, actor, now, dry_run)
    run.total.odd += [Odd("zoneless-times", name) for name in original.zoneless()]
    total = original.count()
    plans = original.plans()
    bring_plans(run, plans)
    done = len(plans)
    watch(done, total)
    for people in original.users():
        bring_people(run, people)
        done += len(people)
        watch(done, total)
    for sales in original.sales():
        bring_sales(run, sales)
        done += len(sales)
        watch(done, total)
    return Imported(
        original.name,
        dry_run,
        plans=_counts(run, "plans", "new", "known", "left_out"),
        users=_counts(run, "users", "new", "known", "left_out"),
        subscriptions=_counts(
            run, "sales", "new", "renewed", "ended", "covered", "burnt", "known", "left_out"
        ),
        odd=run.total.odd,
    )


def _counts(run: Run, table: str, *fates: str) -> dict[str, int]:
    return {fate: run.total.counts[f"{table}_{fate}"] for fate in ("read", *fates)}
