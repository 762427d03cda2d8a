"""The doctor's look at this host: the settings and who can read them, the disk, the timers."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

from buffettsbot.core.app import open_chain, style_of
from buffettsbot.core.chain.tron.addresses import NETWORKS
from buffettsbot.core.errors import BuffettsbotError
from buffettsbot.core.health.findings import FAILED, OK, UNKNOWN, WARNING, Finding, counted
from buffettsbot.core.messages import owners
from buffettsbot.core.settings.places import PREFIX
from buffettsbot.core.settings.settings import NEEDED, Settings

FULL = 100 * 1024 * 1024
NEARLY_FULL = 1024 * 1024 * 1024
SYSTEMD = Path("/run/systemd/system")  # is there exactly where systemd runs
PASSES = ("settle", "deliver", "remind", "expire")
UNITS = (*(f"buffettsbot-{name}.timer" for name in (*PASSES, "backup")), "buffettsbot-http.service")
SHORTEST_TOKEN = 16
# Read by the program though no settings of the owner's.
OTHERS = {"ENV_FILE", "TEST_PG", "TEST_WORKERS"}


def check_settings(settings: Settings, file: Path | None) -> Iterator[Finding]:
    """Name every malformed setting, and what is set in vain. Those needed have their own checks."""
    where = f"Fix it in {file or 'the environment'}, or run: buffettsbot init"
    problems = settings.problems(*(set(Settings.model_fields) - NEEDED))
    for name, why in sorted(problems.items()):
        yield Finding("settings", FAILED, f"{PREFIX}{name.upper()} {why}", where)
    for name in _unknown_names(file):
        near = get_close_matches(name, [f"{PREFIX}{n.upper()}" for n in Settings.model_fields], 1)
        advice = f"Did you mean {near[0]}?" if near else "Take it out."
        yield Finding("settings", WARNING, f"{name} is no setting and does nothing", advice)
    try:
        open_chain(settings)
        broken = owners.check(style_of(settings))
    except BuffettsbotError as error:
        if not problems:
            yield Finding("settings", FAILED, str(error), where)
        return
    if broken:
        found = f"{counted(len(broken), 'text')} or pictures of your own are not used"
        yield Finding("settings", WARNING, found, "See why: buffettsbot messages check")
    if not problems:
        yield Finding(
            "settings",
            OK,
            f"from {file} and the environment"
            if file
            else "from the environment; there is no env file",
        )


def _unknown_names(file: Path | None) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + o for o in OTHERS}
    names = set(os.environ) | set(dotenv_values(file, interpolate=False) if file else ())
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def check_env_file(file: Path) -> Iterator[Finding]:
    """Check that nobody but its owner and group can read the secrets, and only its owner write."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        yield Finding(
            "env file",
            FAILED,
            f"{file} cannot be seen: {error.strerror}",
            "Run this as the user of the service, or fix the file's rights.",
        )
        return
    shown = f"{file} ({mode:04o})"
    if mode & stat.S_IRWXO:
        what = f"{shown}: everybody on this host can reach its secrets"
        yield Finding("env file", FAILED, what, f"Run: chmod o= {file}")
    elif mode & stat.S_IWGRP:
        what = f"{shown}: its group can change where the money goes"
        yield Finding("env file", WARNING, what, f"Run: chmod g-w {file}")
    else:
        yield Finding("env file", OK, shown)


def check_wallet(settings: Settings) -> Iterator[Finding]:
    """Check the address that receives the money: its checksum, and that it is no token's."""
    where = "Copy the address from the wallet, whole, and run: buffettsbot init"
    if problem := settings.problems("wallet").get("wallet"):
        yield Finding("wallet", FAILED, f"{PREFIX}WALLET {problem}", where)
        return
    wallet = str(settings.wallet)
    contracts = {network.usdt_contract for network in NETWORKS.values()} | {settings.usdt_contract}
    if wallet in contracts:
        what = f"{wallet} is the USDT token's own contract, nobody's wallet"
        yield Finding("wallet", FAILED, what, where)
        return
    yield Finding("wallet", OK, f"{wallet} on {settings.network}, its checksum is right")


def check_api(settings: Settings) -> Iterator[Finding]:
    """Check that the HTTP API asks for a token that cannot be guessed."""
    token = settings.api_token.get_secret_value() if settings.api_token else ""
    advice = "Let one be made: buffettsbot init; the bot has to send it, and serve to be restarted."
    if not token:
        what = "no BUFFETTSBOT_API_TOKEN: everyone on this host may use it"
        yield Finding("api", WARNING, what, advice)
    elif len(token) < SHORTEST_TOKEN:
        what = f"BUFFETTSBOT_API_TOKEN has only {counted(len(token), 'character')}"
        yield Finding("api", WARNING, what, "Take a longer one, such as: openssl rand -base64 32")
    else:
        yield Finding("api", OK, f"needs its token; serve listens on {settings.bind}")


def check_disk(directory: Path) -> Iterator[Finding]:
    """Check the room where the database's file is."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError as error:
        what = f"{directory} cannot be seen: {error.strerror}"
        yield Finding("disk", UNKNOWN, what, "Make the database first: buffettsbot db upgrade")
        return
    what = f"{usage.free / 1024**3:,.1f} of {usage.total / 1024**3:,.1f} GiB free at {directory}"
    if usage.free < NEARLY_FULL:
        status = FAILED if usage.free < FULL else WARNING
        yield Finding("disk", status, what, "Make room: without it no payment can be written down.")
    else:
        yield Finding("disk", OK, what)


def check_timers() -> Iterator[Finding]:
    """Check the systemd units that are installed; elsewhere the last runs alone have to tell."""
    if not SYSTEMD.is_dir():
        return
    for unit, state in _states().items():
        name = unit.removeprefix("buffettsbot-")
        check = "timers" if unit.endswith(".timer") else "service"
        if state == "active":
            yield Finding(check, OK, f"{name} is active")
        elif state:
            advice = f"Run: sudo systemctl enable --now {unit}"
            yield Finding(check, FAILED, f"{name} is {state}", advice)


def _states() -> Mapping[str, str]:
    """Return the state of each of our units, empty for one that is not installed."""
    command = ["systemctl", "show", "--property=LoadState,ActiveState", *UNITS]
    try:
        shown = subprocess.run(  # noqa: S603 -- a command of our own
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    states = {}
    for unit, block in zip(UNITS, shown.strip().split("\n\n"), strict=False):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        states[unit] = "" if facts.get("LoadState") == "not-found" else facts.get("ActiveState", "")
    return states
