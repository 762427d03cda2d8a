"""What a pass did: its report, and its place in the history of runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, update
from sqlmodel import col

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PassRun

HISTORY = timedelta(days=30)


@dataclass
class Report:
    """What was due, and what became of it. `items` say it one by one, for people."""

    name: str
    dry_run: bool = False
    due: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def handled(self) -> int:
        """How many are dealt with so far, whatever came of it."""
        return self.done + self.skipped + self.failed

    def summary(self) -> dict[str, Any]:
        """Return the counts, as the contract names them."""
        return {
            "pass": self.name,
            "due": self.due,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "dry_run": self.dry_run,
        }


def run_recorded(
    db: Database, clock: Callable[[], datetime], name: str, work: Callable[[], Report]
) -> Report:
    """Run a pass and write down when it began, when it ended and what it reported.

    A run that dies leaves a row without `finished_at`. Runs of this pass that began 30 days before
    this one are forgotten.
    """
    with db.begin() as session:
        run = PassRun(name=name, started_at=clock())
        session.add(run)
        old = col(PassRun.started_at) < run.started_at - HISTORY
        session.execute(delete(PassRun).where(col(PassRun.name) == name, old))
    report = work()
    with db.begin() as session:
        session.execute(
            update(PassRun)
            .where(col(PassRun.id) == run.id)
            .values(finished_at=clock(), report=report.summary())
        )
    return report
