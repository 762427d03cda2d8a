"""Is everything right? Every check, side by side, within 12 seconds whatever is dead."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from buffettsbot.core.errors import BadSettings
from buffettsbot.core.health.data import check_data
from buffettsbot.core.health.database import file_of, missing_file
from buffettsbot.core.health.findings import FAILED, Check, Finding, outcome_of, run_all, sentences
from buffettsbot.core.health.host import (
    check_api,
    check_disk,
    check_env_file,
    check_settings,
    check_timers,
    check_wallet,
)
from buffettsbot.core.health.outside import Witness, check_clock, check_source, check_telegram
from buffettsbot.core.settings.places import env_file
from buffettsbot.core.settings.settings import Settings, load_settings
from buffettsbot.core.storage.database import Database

ASK_SECONDS = 9.0  # for what is asked outside, so that it can still say what happened
ALL_SECONDS = 12.0


def examine(clock: Callable[[], datetime]) -> list[Finding]:
    """Check everything, and change nothing; whatever is broken, the rest is still checked.

    The settings are those of the environment and the env file, as for every command.
    """
    try:
        file = env_file()
    except BadSettings as error:
        return [Finding("settings", FAILED, *sentences(str(error)))]
    named = outcome_of("env file", partial(check_env_file, file)) if file else []
    try:
        settings = load_settings()
    except BadSettings as error:
        found, advice = sentences(str(error))
        return [*named, Finding("settings", FAILED, found, advice or _AS_THE_SERVICE)]
    return named + _examined(settings, file, clock)


_AS_THE_SERVICE = "Run this as the user of the service: sudo -u buffettsbot buffettsbot doctor"


def _examined(
    settings: Settings, file: Path | None, clock: Callable[[], datetime]
) -> list[Finding]:
    start = time.monotonic()
    witnesses = {
        name: Witness(start + ASK_SECONDS, clock) for name in ("telegram", *settings.chain_sources)
    }
    checks: dict[str, Check] = {
        "settings": partial(check_settings, settings, file),
        "wallet": partial(check_wallet, settings),
        "api": partial(check_api, settings),
        "database": partial(_check_database, settings, clock),
        "timers": check_timers,
        "telegram": partial(check_telegram, settings, witnesses["telegram"]),
    }
    for name in settings.chain_sources:
        checks[name] = partial(check_source, settings, name, witnesses[name])
    found = run_all(checks, deadline=start + ALL_SECONDS)
    return found + outcome_of("clock", lambda: check_clock(list(witnesses.values())))


def _check_database(settings: Settings, clock: Callable[[], datetime]) -> Iterator[Finding]:
    if settings.problems("database_url"):
        return  # the settings' own line says so
    file = file_of(settings.database)
    if file and (missing := missing_file(file)):
        yield missing
        return
    db = Database(settings.database)
    try:
        yield from outcome_of("database", lambda: check_data(db, clock()))
    finally:
        db.close()
    if file:
        yield from check_disk(file.parent)
