"""One run of the import: what it has seen, and each page in a transaction of its own.

A page is whole or not there, and what it brought is recognised by its key; so a run that was killed
is simply run again. The service goes on meanwhile: whoever changes a page's rows in the same moment
wins, and the page is done again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from buffettsbot.core.errors import Conflict
from buffettsbot.core.from_django.oddities import Odd
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.statements import RACES


@dataclass
class Tally:
    """What became of rows: how many of each fate, and which were odd."""

    counts: Counter[str] = field(default_factory=Counter)
    odd: list[Odd] = field(default_factory=list)


@dataclass
class Run:
    """A run, or with `dry_run` its rehearsal. `names`, `hashes`: what earlier rows have taken."""

    db: Database
    source: str
    actor: str
    now: datetime
    dry_run: bool
    total: Tally = field(default_factory=Tally)
    names: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    written: bool = False

    def page(self, work: Callable[[Connection, Tally], bool]) -> None:
        """Do a page's work in one transaction; `work` returns whether it has written anything.

        The first page that changes something writes the audit log's row. Raises Conflict,
        Unavailable.
        """
        for _ in range(RACES):
            tally = Tally()
            try:
                with self.db.read() if self.dry_run else self.db.begin() as session:
                    connection = session.connection()
                    wrote = work(connection, tally)
                    wrote = wrote and not self.dry_run
                    if wrote and not self.written:
                        audit.record(
                            connection, By(self.actor, self.now), "db import-django", self.source
                        )
            except (Raced, IntegrityError):
                continue
            self.written = self.written or wrote
            self.total.counts += tally.counts
            self.total.odd += tally.odd
            return
        raise Conflict(
            "These rows are being changed by others all the time. Run the import again: what it "
            "brought so far stays."
        )
