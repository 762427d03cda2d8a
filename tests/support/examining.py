"""What the tests of the doctor share: how findings are read, and what a place looks like in use."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from commands import Sandbox
from helpers import MINUTE, shop, staff
from sqlalchemy import insert

from buffettsbot.core.app import utcnow
from buffettsbot.core.health.data import PASS_RUN
from buffettsbot.core.health.findings import Finding
from buffettsbot.core.health.outside import Witness
from buffettsbot.core.settings.settings import Settings
from buffettsbot.core.storage.database import Database

GROUP = -1_001_234_567_890
BOT_TOKEN = "123456789:the-secret-of-the-bot"
API_TOKEN = "the-secret-of-the-api-0123456789"
PASSES = ("settle", "deliver", "remind", "expire")

Configure = Callable[..., Settings]


def play(sandbox: Sandbox, what: str, **values: Any) -> None:
    sandbox.http.post(f"/_sandbox/{what}", json=values).raise_for_status()


def fail(sandbox: Sandbox, service: str, fault: str, **more: Any) -> None:
    play(sandbox, "faults", service=service, fault=fault, **more)


def witness(now: Callable[[], datetime] = utcnow) -> Witness:
    return Witness(float("inf"), now)


def told(findings: Any) -> list[tuple[str, str]]:
    """Return checks and statuses; whatever is not well has to come with advice."""
    findings = list(findings)
    assert all(f.advice for f in findings if f.status != "ok"), findings
    assert all("\n" not in f.found + f.advice for f in findings), findings
    return [(f.check, f.status) for f in findings]


def only(findings: Any, check: str) -> Finding:
    (finding,) = [f for f in findings if f.check == check]
    assert isinstance(finding, Finding)
    assert finding.status == "ok" or finding.advice
    return finding


def ran(db: Database, name: str, started: datetime, ended: datetime | None, **report: int) -> None:
    row = {"name": name, "started_at": started, "finished_at": ended, "report": report or None}
    with db.begin() as session:
        session.execute(insert(PASS_RUN), row)


def in_use(db: Database, now: datetime) -> None:
    """What a place looks like where everything runs."""
    shop(db)
    staff(db, 1)
    for name in PASSES:
        ran(db, name, now - 2 * MINUTE, now - MINUTE, due=3, done=3, failed=0)
