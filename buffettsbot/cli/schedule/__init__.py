"""buffettsbot schedule: the passes in one process, for hosts without systemd."""

import signal
import time

import typer

from buffettsbot.cli.schedule.children import Children
from buffettsbot.cli.schedule.timetable import Timetable
from buffettsbot.cli.shared.facts import when
from buffettsbot.cli.shared.options import PAYMENTS, TIMES, command_settings
from buffettsbot.cli.shared.output import say
from buffettsbot.core.app import open_app, open_chain, utcnow
from buffettsbot.core.errors import Unavailable
from buffettsbot.core.settings.settings import Settings, load_settings

commands = typer.Typer(**command_settings)

# Seconds after which a pass hangs, for all that is known. Delivering keeps to Telegram's speed.
LIMITS = {"settle": 900.0, "remind": 3600.0, "expire": 3600.0, "deliver": 3600.0}
NEEDED = ("telegram_token", "telegram_url", "group_id", "reminder_days", "expire_guard")
MESSAGES = ("language", "community", "support", "messages_dir")
TICK = 0.5  # seconds between two looks at the clock and at the children


@commands.command()
def schedule() -> None:
    """Run the passes at their times until SIGTERM, for hosts without systemd.

    settle and deliver every minute, remind and expire daily at 00:00 in BUFFETTSBOT_TIMEZONE; each
    once at the start, which catches up on what was missed. Each is a process of its own, as the
    timers run them. A line is written for what did something or failed.
    """
    settings = load_settings()
    settings.require("database_url", *TIMES, *PAYMENTS, *NEEDED, *MESSAGES)
    open_chain(settings)  # what the sources say of their settings, before anything is asked
    _look_at_database(settings)
    children = Children(LIMITS)

    def tell(name: str, words: str) -> None:
        say(f"{when(utcnow(), settings.timezone, '%Y-%m-%d %H:%M:%S')} {name}: {words}")

    def start(name: str) -> bool:
        try:
            return children.start(name)
        except OSError as error:  # no memory or no process to be had: in a minute, perhaps
            tell(name, f"it cannot be started now ({error.strerror})")
            return False

    timetable = Timetable(start, zone=settings.timezone, clock=utcnow)
    wanted_to_end: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: wanted_to_end.append(number))
    say(f"The passes run now, and at their times; a day begins at 00:00 {settings.timezone}.")
    timetable.start_all()
    while not wanted_to_end:
        time.sleep(TICK)
        for ended in children.tend():
            for words in filter(None, (ended.summary, ended.words)):
                tell(ended.name, words)
            if ended.is_to_be_repeated:
                timetable.let_run_again(ended.name)
        timetable.start_due()
    children.stop()


def _look_at_database(settings: Settings) -> None:
    """Make or check it once, before the passes do; one that is away may come back."""
    try:
        open_app(settings).db.close()
    except Unavailable as error:
        say(f"{error} The passes go on trying.")
