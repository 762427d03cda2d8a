"""`db move`: everything into an empty database of either kind, or nothing at all."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from commands import ROOT
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    buy,
    clean_env,
    fake_chain,
    hash_of,
    member,
    person,
    shop,
    silence,
    staff,
)
from sqlalchemy import Select, Table, select, text

from buffettsbot.core.backup.move import TABLES, move
from buffettsbot.core.errors import Conflict, NotAllowed
from buffettsbot.core.health.invariants import find_broken
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import grants
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.storage import leases, migrations, passes
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.passes import Report


@pytest.fixture
def target(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url)
    yield opened
    opened.close()


@pytest.fixture
def filled(db: Database) -> Database:
    """A shop in which something is in every table."""
    staff(db, 1)
    member(db, 7, "ann")
    member(db, 8, "ben")
    person(db, 9, None, first_name="Чарли 🟢")
    shop(db, year=400)
    chain = fake_chain({hash_of(9): silence()})
    claim(db, chain, EXPECTATION, person=9, period="1 year", transaction_hash=hash_of(9), now=NOW)
    grants.grant(db, person=7, days=3, reason="kind", by=By("root", NOW))
    leases.take(db, "deliver", holder="x", now=NOW, until=NOW + timedelta(microseconds=1))
    passes.run_recorded(db, lambda: NOW, "settle", lambda: Report("settle", due=3))
    remind(db, now=NOW + 27 * DAY, days=(7, 3, 1))
    expire(db, now=NOW + 31 * DAY, guard=1.0, group=True)
    return db


def _all(table: Table) -> Select[*tuple[object, ...]]:
    return select(table).order_by(*table.primary_key)


def everything(db: Database) -> dict[str, list[tuple[object, ...]]]:
    with db.snapshot() as connection:
        return {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in TABLES
        }


def test_every_row_arrives_as_it_was(filled: Database, target: Database) -> None:
    before = everything(filled)
    assert all(before.values()), "a table is empty, so this test says nothing of it"
    told: list[tuple[int, int]] = []
    counts = move(filled, target, watch=lambda done, of: told.append((done, of)))
    assert everything(filled) == everything(target) == before
    assert counts == {name: len(rows) for name, rows in before.items()}
    assert told[-1] == (sum(counts.values()),) * 2
    assert list(find_broken(target, now=NOW)) == list(find_broken(filled, now=NOW))


def test_the_new_home_goes_on_as_the_old_one(filled: Database, target: Database) -> None:
    move(filled, target)
    member(target, 70, "dora")  # new rows get new numbers
    assert buy(target, hash_of(7), who=70).verdict.reason == "already-used"
    remind(target, now=NOW + 27 * DAY, days=(7, 3, 1))
    keys = [str(row[1]) for row in everything(target)["outbox"]]
    assert sum(key.startswith("reminder:8:") for key in keys) == 1


def test_a_target_that_holds_anything_is_refused(filled: Database, target: Database) -> None:
    before = everything(filled)
    move(filled, target)
    with pytest.raises(Conflict, match="not empty: it holds"):
        move(filled, target)
    assert everything(filled) == everything(target) == before


def test_a_table_of_somebody_elses_is_refused(filled: Database, target: Database) -> None:
    with target.begin() as session:
        session.execute(text("CREATE TABLE theirs (a integer)"))
    with pytest.raises(Conflict, match="it holds theirs"):
        move(filled, target)


def test_a_prepared_target_without_a_row_will_do(filled: Database, target: Database) -> None:
    migrations.upgrade(target)
    move(filled, target)
    assert everything(target) == everything(filled)


def test_a_source_of_another_form_is_refused(empty_database_url: str, target: Database) -> None:
    source = Database("sqlite://")
    with pytest.raises(NotAllowed, match="db upgrade"):
        move(source, target)
    assert target.version() is None
    source.close()


_DIE = """
import os, signal, sys
from buffettsbot.core.backup import move
from buffettsbot.core.storage.database import Database
move.PAGE_ROWS = 1
def watch(done, of):
    if done == of - 2:
        os.kill(os.getpid(), signal.SIGKILL)
move.move(Database(sys.argv[1]), Database(sys.argv[2]), watch=watch)
"""


def test_a_move_that_is_killed_left_no_row_and_is_done_again(
    filled: Database, database_url: str, target: Database, empty_database_url: str
) -> None:
    command = [sys.executable, "-c", _DIE, database_url, empty_database_url]
    done = subprocess.run(command, env=clean_env(database_url), cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not any(everything(target).values())
    move(filled, target)
    assert everything(target) == everything(filled)
