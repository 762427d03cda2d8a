"""The history of passes: what ran, for as long as anybody asks."""

from datetime import datetime, timedelta

import pytest
from helpers import MINUTE, NOW, rows

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PassRun
from buffettsbot.core.storage.passes import HISTORY, Report, run_recorded


def ran(db: Database, name: str, at: datetime) -> None:
    run_recorded(db, lambda: at, name, lambda: Report(name, due=2, done=2))


def test_a_pass_forgets_its_own_runs_of_more_than_a_month_ago(db: Database) -> None:
    for name in ("settle", "expire"):
        ran(db, name, NOW)
    ran(db, "settle", NOW + HISTORY)
    assert [run.name for run in rows(db, PassRun)] == ["settle", "expire", "settle"]
    ran(db, "settle", NOW + HISTORY + MINUTE)
    kept = [(run.name, run.started_at - NOW) for run in rows(db, PassRun)]
    assert kept == [("expire", timedelta(0)), ("settle", HISTORY), ("settle", HISTORY + MINUTE)]


def test_a_run_that_dies_stays_without_an_end(db: Database) -> None:
    def die() -> Report:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 -- whatever it dies of
        run_recorded(db, lambda: NOW, "remind", die)
    ran(db, "remind", NOW + MINUTE)
    runs = [(run.finished_at, run.report) for run in rows(db, PassRun)]
    report = {"pass": "remind", "due": 2, "done": 2, "skipped": 0, "failed": 0, "dry_run": False}
    assert runs == [(None, None), (NOW + MINUTE, report)]
