"""What the owner chose: environment, one env file, systemd credentials, and the seed's names.

A malformed value is remembered, not raised: `Settings.require` names everything that is missing or
wrong, at once, when a command that needs it starts. Commands that don't need it work without it.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import platformdirs
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from buffettsbot.core.chain.tron.addresses import NETWORKS, parse_address
from buffettsbot.core.errors import BadSettings, BuffettsbotError
from buffettsbot.core.money import from_usdt
from buffettsbot.core.settings import envfile

PREFIX = "BUFFETTSBOT_"
ETC_FILE = Path("/etc/buffettsbot/buffettsbot.env")
SERVICE_STATE = Path("/var/lib/buffettsbot")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 100 * 365 * 86400  # more than anybody means, and far from what a timedelta holds


def _ours(convert: Any) -> Any:
    """Let pydantic report our own errors as it reports its own."""

    def checked(value: Any) -> Any:
        try:
            return convert(value)
        except BuffettsbotError as error:
            raise ValueError(str(error)) from None

    return checked


def parse_duration(text: str) -> timedelta:
    """Given `24h`, `90m`, `7d` (or bare seconds), return the duration. Raise ValueError
    otherwise."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhdw]?)", text.strip().lower(), re.ASCII)
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise ValueError("write a duration such as 24h, 90m or 7d")
    return timedelta(seconds=seconds)


def _share(text: Any) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", str(text).strip(), re.ASCII)
    share = float(match[1]) / 100 if match else -1
    if not 0 <= share <= 1:
        raise ValueError("write a share such as 20%")
    return share


def _days(text: Any) -> tuple[int, ...]:
    parts = [part.strip() for part in str(text).split(",")]
    if not all(re.fullmatch(r"[1-9]\d{0,2}", part, re.ASCII) for part in parts):
        raise ValueError("write days such as 7,3,1")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def _sources(text: Any) -> tuple[str, ...]:
    names = tuple(part.strip().lower() for part in str(text).split(","))
    if not set(names) <= {"tronscan", "trongrid"} or len(set(names)) != len(names):
        raise ValueError("write tronscan, trongrid, or both with a comma between")
    return names


def _group(text: Any) -> int:
    if not re.fullmatch(r"-\d{1,18}", str(text).strip(), re.ASCII):
        raise ValueError("write a group's id, a number below 0 such as -1001234567890")
    return int(text)


def _zone(text: Any) -> ZoneInfo:
    try:
        return ZoneInfo(str(text))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write a time zone such as Europe/Berlin") from None


def _address(text: Any) -> str:
    return parse_address(str(text))


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write a URL that begins with https://")
    return text


def _database_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql+psycopg"
    if not separator or scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError("write sqlite:////path/to/file.db or postgresql://user@host/database")
    return SecretStr(f"{scheme}://{rest}")


def parse_bind(text: str) -> str:
    """Given `host:port` or `unix:/path`, return it. Raise ValueError otherwise."""
    if text.startswith("unix:/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("write host:port or unix:/path")
    return text


Address = Annotated[str, BeforeValidator(_ours(_address))]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
MicroUsdt = Annotated[int, BeforeValidator(_ours(lambda value: from_usdt(str(value))))]


# What is wrong with the settings being read just now, by field.
_found: ContextVar[dict[str, str]] = ContextVar("problems")


def _seed(name: str, seed_name: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, seed_name)


class Settings(BaseSettings):
    """Every setting, with its default; see the contract, section 1. Frozen, secrets masked."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    wallet: Address | None = Field(
        None, validation_alias=_seed("WALLET", "STAS_TRC20_WALLET_ADDRESS")
    )
    network: Literal["mainnet", "nile", "shasta"] = "mainnet"
    usdt_contract: Address | None = None
    chain_sources: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sources)] = (
        "tronscan",
        "trongrid",
    )
    chain_quorum: int = Field(1, ge=1, le=2)
    tronscan_url: HttpUrl | None = Field(
        None, validation_alias=_seed("TRONSCAN_URL", "API_ENDPOINT")
    )
    tronscan_api_key: SecretStr | None = Field(
        None, validation_alias=_seed("TRONSCAN_API_KEY", "API_KEY")
    )
    trongrid_url: HttpUrl | None = None
    trongrid_api_key: SecretStr | None = None
    telegram_token: SecretStr | None = Field(
        None, validation_alias=_seed("TELEGRAM_TOKEN", "TELEGRAM_BOT_TOKEN")
    )
    telegram_url: HttpUrl = "https://api.telegram.org"
    group_id: Annotated[int, BeforeValidator(_group)] | None = None
    api_token: SecretStr | None = None
    bind: Annotated[str, AfterValidator(parse_bind)] = "127.0.0.1:8000"
    timezone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")
    language: Literal["en", "ru"] = "en"
    community: str = Field("our community", max_length=100)
    support: str | None = Field(None, max_length=100)
    messages_dir: Path | None = None
    reminder_days: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_days)] = (7, 3, 1)
    payment_max_age: Annotated[timedelta, BeforeValidator(parse_duration)] = timedelta(hours=24)
    underpayment_tolerance: MicroUsdt = Field(0, ge=0)
    expire_guard: Annotated[float, BeforeValidator(_share)] = 0.2
    hold_risky: bool = False

    _problems: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("*", mode="wrap")
    @classmethod
    def _remember(cls, value: Any, handler: Any, info: ValidationInfo) -> Any:
        """Keep the default in place of a malformed value, and remember what was wrong with it."""
        name = str(info.field_name)
        try:
            return handler(value)
        except ValidationError as error:
            why = error.errors(include_url=False, include_input=False)[0]["msg"]
            _found.get()[name] = "is malformed: " + why.removeprefix("Value error, ")
            return cls.model_fields[name].get_default()

    def problems(self, *names: str) -> dict[str, str]:
        """Return what is wrong with each of these: malformed, or missing though it has no
        default."""
        wrong = {name: self._problems[name] for name in names if name in self._problems}
        missing = {
            name: MISSING
            for name in names
            if name not in wrong and name in NEEDED and getattr(self, name) is None
        }
        return wrong | missing

    def require(self, *names: str) -> None:
        """Raise BadSettings, naming each of these that is malformed, or missing though it has no
        default."""
        if problems := self.problems(*names):
            lines = [f"{PREFIX}{name.upper()} {why}" for name, why in problems.items()]
            listed = "Settings to mend (environment or env file):\n  " + "\n  ".join(lines)
            asked = "\nTo be asked for what is not set: buffettsbot init"
            raise BadSettings(listed + (asked if MISSING in problems.values() else ""))

    @property
    def database(self) -> str:
        """The SQLAlchemy URL, password included. Raises BadSettings when it is malformed."""
        self.require("database_url")
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{_state_directory() / 'buffettsbot.db'}"

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


NEEDED = frozenset({"wallet", "telegram_token"})
MISSING = "is not set"


class _SeedDatabase(BaseSettings):
    """The seed's way of naming its database."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    sql_engine: str = ""
    sql_database: str = ""
    sql_user: str = ""
    sql_password: SecretStr = SecretStr("")
    sql_host: str = ""
    sql_port: str = ""

    @property
    def url(self) -> SecretStr | None:
        """The SQLAlchemy URL these mean, or None when they name no database."""
        if not self.sql_engine or not self.sql_database:
            return None
        if self.sql_engine.endswith("sqlite3"):
            return SecretStr(f"sqlite:///{self.sql_database}")
        login = quote(self.sql_user, safe="")
        if password := self.sql_password.get_secret_value():
            login += ":" + quote(password, safe="")
        port = f":{self.sql_port}" if self.sql_port else ""
        host = f"{login}@{self.sql_host}{port}" if login else f"{self.sql_host}{port}"
        return SecretStr(f"postgresql+psycopg://{host}/{quote(self.sql_database, safe='')}")


def _keys(secret: SecretStr | None) -> list[str]:
    text = secret.get_secret_value() if secret else ""
    return [key.strip() for key in text.split(",") if key.strip()]


def _state_directory() -> Path:
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


def named_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Given variables by name, ours or the seed's, return the settings they set, as text."""
    found = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [PREFIX + name.upper()]
        if text := next(filter(None, (variables.get(str(each)) for each in names)), None):
            found[name] = text
    parts: dict[str, Any] = {
        name: variables.get(name.upper(), "") for name in _SeedDatabase.model_fields
    }
    parts["sql_password"] = SecretStr(parts["sql_password"])
    url = _SeedDatabase.model_construct(None, **parts).url
    if url is not None:
        found.setdefault("database_url", url.get_secret_value())
    return found


class _Given(Settings):
    """Settings that are given by name, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: Any, init_settings: Any, *_args: Any, **_others: Any
    ) -> tuple[Any, ...]:
        """Ask nobody else."""
        return (init_settings,)


def malformed(values: Mapping[str, str]) -> dict[str, str]:
    """Given settings as text, return what is wrong with those that are malformed."""
    problems: dict[str, str] = {}
    token = _found.set(problems)
    try:
        _Given.model_validate(dict(values))
    finally:
        _found.reset(token)
    return problems


def load_settings(file: Path | None = None) -> Settings:
    """Return the settings of the environment and the env file, with what is wrong remembered.

    `file`: instead of the usual places. Raises BadSettings when the env file cannot be read.
    """
    path = file or env_file()
    problems: dict[str, str] = {}
    token = _found.set(problems)
    try:
        settings = Settings(_env_file=path, _secrets_dir=os.environ.get("CREDENTIALS_DIRECTORY"))
        seed = _SeedDatabase(_env_file=path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        closed = isinstance(error, PermissionError) and path == ETC_FILE
        join = " Admins may: sudo adduser NAME buffettsbot, then log in anew." if closed else ""
        raise BadSettings(f"The env file {path} cannot be read: {why}.{join}") from None
    finally:
        _found.reset(token)
    if settings.database_url is None and "database_url" not in problems:
        settings = settings.model_copy(update={"database_url": seed.url})
    settings._problems.update(problems)
    return settings
