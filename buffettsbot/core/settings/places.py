"""Where settings and data are looked for, on a host and in a home directory."""

import os
from pathlib import Path

import platformdirs

from buffettsbot.core.errors import BadSettings
from buffettsbot.core.settings import envfile

PREFIX = "BUFFETTSBOT_"
ETC_FILE = Path("/etc/buffettsbot/buffettsbot.env")
SERVICE_STATE = Path("/var/lib/buffettsbot")


def state_directory() -> Path:
    """Return where a database goes that nobody placed: the service's state, or the user's data."""
    if ETC_FILE.is_file() and is_installed():
        return SERVICE_STATE
    return Path(platformdirs.user_data_dir("buffettsbot"))


def is_installed() -> bool:
    """Return whether this host has the service's state directory."""
    return SERVICE_STATE.is_dir()


def env_file() -> Path | None:
    """Return the env file in use: the named one, else the first of the usual places that exists.

    Raises BadSettings when the named one does not exist, or one cannot be seen.
    """
    named = os.environ.get(PREFIX + "ENV_FILE")
    if named:
        if not envfile.is_there(Path(named)):
            raise BadSettings(
                f"{PREFIX}ENV_FILE names {named}, which does not exist. "
                "Make it: buffettsbot init; or name another file."
            )
        return Path(named)
    return next((path for path in usual_places() if envfile.is_there(path)), None)


def usual_places() -> tuple[Path, Path]:
    """Return where an env file is looked for: the host's, then the user's own."""
    own = Path(platformdirs.user_config_dir("buffettsbot")) / "buffettsbot.env"
    return ETC_FILE, own
