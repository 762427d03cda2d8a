"""Word to the staff that something on the host has failed."""

from datetime import datetime

from buffettsbot.core import outbox
from buffettsbot.core.db import Database


def raise_alarm(db: Database, *, unit: str, error: str, now: datetime) -> None:
    """Queue word for the staff that a unit of systemd has failed, once an hour for each unit.

    What fails every minute must not be told every minute, and what fails again must not be silent.
    """
    with db.begin() as session:
        outbox.queue_for_staff(
            session.connection(),
            key=f"pass-failed:{unit}:{now:%Y-%m-%dT%H}",
            kind="pass-failed",
            payload={"pass": unit, "error": error},
            now=now,
        )
