"""What the owner chose: environment, one env file, systemd credentials, and the seed's names.

A malformed value is remembered, not raised: `Settings.require` names everything that is missing or
wrong, at once, when a command that needs it starts. Commands that don't need it work without it.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from buffettsbot.core.chain.tron.addresses import NETWORKS
from buffettsbot.core.errors import BadSettings
from buffettsbot.core.settings import envfile, places
from buffettsbot.core.settings.original import SEED_NAMES, seed_database_url
from buffettsbot.core.settings.places import PREFIX, env_file, state_directory
from buffettsbot.core.settings.values import (
    Address,
    HttpUrl,
    MicroUsdt,
    check_database_url,
    parse_bind,
    parse_days,
    parse_duration,
    parse_group,
    parse_share,
    parse_sources,
    parse_zone,
)

NEEDED = frozenset({"wallet", "telegram_token"})
MISSING = "is not set"


class Settings(BaseModel):
    """Every setting, with its default; see the contract, section 1. Frozen, secrets masked."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    database_url: Annotated[SecretStr, AfterValidator(check_database_url)] | None = None
    wallet: Address | None = None
    network: Literal["mainnet", "nile", "shasta"] = "mainnet"
    usdt_contract: Address | None = None
    chain_sources: Annotated[tuple[str, ...], BeforeValidator(parse_sources)] = (
        "tronscan",
        "trongrid",
    )
    chain_quorum: int = Field(1, ge=1, le=2)
    tronscan_url: HttpUrl | None = None
    tronscan_api_key: SecretStr | None = None
    trongrid_url: HttpUrl | None = None
    trongrid_api_key: SecretStr | None = None
    telegram_token: SecretStr | None = None
    telegram_url: HttpUrl = "https://api.telegram.org"
    group_id: Annotated[int, BeforeValidator(parse_group)] | None = None
    api_token: SecretStr | None = None
    bind: Annotated[str, AfterValidator(parse_bind)] = "127.0.0.1:8000"
    timezone: Annotated[ZoneInfo, BeforeValidator(parse_zone)] = ZoneInfo("UTC")
    language: Literal["en", "ru"] = "en"
    community: str = Field("our community", max_length=100)
    support: str | None = Field(None, max_length=100)
    messages_dir: Path | None = None
    reminder_days: Annotated[tuple[int, ...], BeforeValidator(parse_days)] = (7, 3, 1)
    payment_max_age: Annotated[timedelta, BeforeValidator(parse_duration)] = timedelta(hours=24)
    underpayment_tolerance: MicroUsdt = Field(0, ge=0)
    expire_guard: Annotated[float, BeforeValidator(parse_share)] = 0.2
    hold_risky: bool = False

    _malformed: dict[str, str] = PrivateAttr(default_factory=dict)

    def problems(self, *names: str) -> dict[str, str]:
        """Return what is wrong with each of these: malformed, or missing without a default."""
        wrong = {name: self._malformed[name] for name in names if name in self._malformed}
        missing = {
            name: MISSING
            for name in names
            if name not in wrong and name in NEEDED and getattr(self, name) is None
        }
        return wrong | missing

    def require(self, *names: str) -> None:
        """Raise BadSettings, naming what is wrong with these, unless nothing is; see `problems`."""
        if problems := self.problems(*names):
            lines = [f"{PREFIX}{name.upper()} {why}" for name, why in problems.items()]
            listed = "Fix these settings (environment or env file):\n  " + "\n  ".join(lines)
            asked = "\nTo be asked for what is not set: buffettsbot init"
            raise BadSettings(listed + (asked if MISSING in problems.values() else ""))

    @property
    def database(self) -> str:
        """The SQLAlchemy URL, password included. Raises BadSettings when it is malformed."""
        self.require("database_url")
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{state_directory() / 'buffettsbot.db'}"

    @property
    def tronscan_base(self) -> str:
        """Tronscan's base URL; the seed's form, the whole path of one call, is understood."""
        url = self.tronscan_url or NETWORKS[self.network].tronscan_url
        return url.split("/api/transaction-info")[0]

    @property
    def trongrid_base(self) -> str:
        """TronGrid's base URL."""
        return self.trongrid_url or NETWORKS[self.network].trongrid_url

    @property
    def tronscan_keys(self) -> list[str]:
        """Tronscan's API keys, possibly none."""
        return _keys(self.tronscan_api_key)

    @property
    def trongrid_keys(self) -> list[str]:
        """TronGrid's API keys, possibly none."""
        return _keys(self.trongrid_api_key)


def load_settings(file: Path | None = None) -> Settings:
    """Return the settings of systemd's credentials, the env file and the environment, where the
    later wins; what is malformed is remembered.

    `file`: instead of the usual places. Raises BadSettings when the env file cannot be read.
    """
    path = file or env_file()
    try:
        credentials = _credentials(os.environ.get("CREDENTIALS_DIRECTORY"))
        written = envfile.values_in(path.read_text("utf-8")) if path else {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        closed = isinstance(error, PermissionError) and path == places.ETC_FILE
        join = " Admins may: sudo adduser NAME buffettsbot, then log in anew." if closed else ""
        raise BadSettings(f"The env file {path} cannot be read: {why}.{join}") from None
    given = named_in(credentials, written, os.environ)
    wrong = malformed(given)
    settings = Settings.model_validate({n: text for n, text in given.items() if n not in wrong})
    settings._malformed.update(wrong)
    return settings


def _credentials(directory: str | None) -> dict[str, str]:
    """Return the variables that systemd hands over as files named `buffettsbot_…`."""
    files = Path(directory).iterdir() if directory and Path(directory).is_dir() else ()
    return {
        file.name: file.read_text("utf-8").strip()
        for file in files
        if file.name.upper().startswith(PREFIX)
    }


def named_in(*sources: Mapping[str, str]) -> dict[str, str]:
    """Given variables by name, ours or the seed's, return the settings they set, as text.

    The later source wins; within one, our name. Capitals do not matter; an empty text sets nothing.
    """
    found: dict[str, str] = {}
    variables: dict[str, str] = {}
    for source in sources:
        said = {name.upper(): text for name, text in source.items() if text}
        variables |= said
        for name in Settings.model_fields:
            if text := said.get(PREFIX + name.upper()) or said.get(SEED_NAMES.get(name, "")):
                found[name] = text
    if "database_url" not in found and (url := seed_database_url(variables)):
        found["database_url"] = url
    return found


def malformed(values: Mapping[str, str]) -> dict[str, str]:
    """Given settings as text, return what is wrong with those that are malformed."""
    wrong: dict[str, str] = {}
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            why = each["msg"].removeprefix("Value error, ")
            wrong.setdefault(str(each["loc"][0]), f"is malformed: {why}")
    return wrong


def _keys(secret: SecretStr | None) -> list[str]:
    text = secret.get_secret_value() if secret else ""
    return [key.strip() for key in text.split(",") if key.strip()]
