"""The first settings: what is given, what is there already, and what is still missing.

What is given (options, environment) replaces what the env file says; what the original system's
file says, and a fresh API token, only fill gaps. So it is safe to repeat.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buffettsbot.core.errors import BadSettings, NotFound
from buffettsbot.core.settings import envfile
from buffettsbot.core.settings.places import PREFIX, is_installed, usual_places
from buffettsbot.core.settings.settings import MISSING, NEEDED, Settings, malformed, named_in

HEADING = """\
# The settings of buffettsbot, read by the program and by systemd. Secrets are in here.
# After a change: buffettsbot doctor; and restart what runs.
"""
NOTES = {
    "database_url": "Where the data is; without it, an SQLite file in the user's data directory.",
    "wallet": "The TRON address that receives the USDT.",
    "telegram_token": "The bot's token, from @BotFather.",
    "group_id": "The private group; without it admins add and remove members by hand.",
    "timezone": "For dates that people read, and for midnight.",
    "language": "Of the messages: en or ru.",
    "community": "Its name in messages.",
    "api_token": "The bearer token of the HTTP API; the bot sends it with every request.",
}


@dataclass(frozen=True)
class Draft:
    """An env file as it is, and what is to change in it (settings as text, by name)."""

    path: Path
    text: str
    standing: Mapping[str, str]
    changes: Mapping[str, str]

    @property
    def values(self) -> dict[str, str]:
        """What the file will set."""
        return {**self.standing, **self.changes}

    @property
    def telegram_url(self) -> str:
        """Where Telegram answers, by these settings."""
        default: str = Settings.model_fields["telegram_url"].default
        return self.values.get("telegram_url", default)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with each setting that is needed and not there, or malformed."""
        missing = sorted(NEEDED - self.values.keys(), reverse=True)
        return dict.fromkeys(missing, MISSING) | malformed(self.values)


def place(named: Path | None, environment: Mapping[str, str]) -> Path:
    """Return where the env file is, or is to be: the named one, the first of the usual places that
    exists, else the user's own; for root, where the service is installed, the host's."""
    if chosen := named or environment.get(f"{PREFIX}ENV_FILE"):
        return Path(chosen)
    host, own = usual_places()
    existing = next((path for path in (host, own) if envfile.is_there(path)), None)
    return existing or (host if os.geteuid() == 0 and is_installed() else own)


def draft(
    path: Path,
    *,
    given: Mapping[str, str],
    environment: Mapping[str, str],
    original: Path | None = None,
) -> Draft:
    """Return what is to become of an env file.

    `given`: settings as text; `original`: an env file of the original system, which fills gaps.
    Raises BadSettings for a file that cannot be read, and for malformed values, naming all of
    them.
    """
    text = envfile.read_text(path)
    standing = named_in(envfile.values_in(text))
    wanted = named_in(environment) | {name: value for name, value in given.items() if value}
    if original is not None:
        if not envfile.is_there(original):
            raise NotFound(f"There is no file {original}.")
        old = named_in(envfile.values_in(envfile.read_text(original)))
        wanted = {name: old[name] for name in old.keys() - standing.keys()} | wanted
    if "api_token" not in standing:
        wanted.setdefault("api_token", secrets.token_urlsafe(32))
    ordered = [*NOTES, *sorted(wanted.keys() - NOTES.keys())]
    changes = {
        name: wanted[name]
        for name in ordered
        if name in wanted and wanted[name] != standing.get(name)
    }
    if problems := malformed(changes):
        lines = [f"{PREFIX}{name.upper()} {why}" for name, why in problems.items()]
        raise BadSettings("Nothing was written. Fix:\n  " + "\n  ".join(lines))
    return Draft(path, text, standing, changes)


def write(wanted: Draft) -> None:
    """Write the env file, if anything is to change. Raises Invalid, NotAllowed, Unavailable."""
    if not wanted.changes:
        return
    values = {f"{PREFIX}{name.upper()}": value for name, value in wanted.changes.items()}
    notes = {f"{PREFIX}{name.upper()}": note for name, note in NOTES.items()}
    envfile.write(wanted.path, envfile.with_values(wanted.text or HEADING, values, notes))
