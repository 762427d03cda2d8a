"""What an examination finds: one line each, what was seen and what to do about it.

Checks are functions without arguments that yield findings. They run side by side, each fails alone,
and none is waited for beyond the deadline that all of them share.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from buffettsbot.core.errors import BuffettsbotError, Unavailable

OK, WARNING, FAILED, UNKNOWN = "ok", "warning", "failed", "unknown"


@dataclass(frozen=True)
class Finding:
    """One line. `status`: ok, warning, failed, or unknown (it could not be checked now).

    `advice`: what to do next; empty where nothing is to be done.
    """

    check: str
    status: str
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 4 when something is wrong, else 5 when something could not be checked, else 0."""
    seen = {finding.status for finding in findings}
    return 4 if FAILED in seen else 5 if UNKNOWN in seen else 0


def run_all(checks: Mapping[str, Check], *, deadline: float) -> list[Finding]:
    """Run every check in a thread of its own; return the findings in the order of the checks.

    `deadline`: a `time.monotonic` instant. A check that is not done by then is unknown, and its
    thread is left alone: a name server or a database that hangs keeps nobody waiting.
    """
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        found[name] = outcome_of(name, check)

    threads = [
        threading.Thread(target=run, args=pair, name=f"check-{pair[0]}", daemon=True)
        for pair in checks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = "no answer in time"
    return [
        finding
        for name in checks
        for finding in found.get(name, [Finding(name, UNKNOWN, late, "Try again in a moment.")])
    ]


def outcome_of(name: str, check: Check) -> list[Finding]:
    """Run one check; whatever goes wrong in it is a finding too."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except BuffettsbotError as error:
        status = UNKNOWN if isinstance(error, Unavailable) else FAILED
        found.append(Finding(name, status, *sentences(str(error))))
    except Exception as error:  # noqa: BLE001 -- the doctor must outlive what it examines
        what = f"the check itself failed ({type(error).__name__})"
        found.append(Finding(name, UNKNOWN, what, "This is a bug of buffettsbot: report it."))
    return found


def sentences(text: str) -> tuple[str, str]:
    """Given an error's text, return what happened and what to do next, which follows it."""
    what, _, cure = text.partition(". ")
    return (what, cure) if cure else (what.rstrip("."), "")


def ago(span: timedelta) -> str:
    """Return a time span as people say it, in its largest unit."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "day"):
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is right."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(words: Sequence[str]) -> str:
    """Return words as one reads them in a sentence."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
