"""What the owner chose: environment, one env file, systemd credentials, and the seed's names.

A malformed value is remembered, not raised: `Settings.require` names everything that is missing or
wrong, at once, when a command that needs it starts. Commands that don't need it work without it.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

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

from buffettsbot.core.chain.tron.addresses import NETWORKS
from buffettsbot.core.errors import BadSettings
from buffettsbot.core.settings import places
from buffettsbot.core.settings.original import SeedDatabase, seed_alias
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

# What is wrong with the settings being read just now, by field.
_found: ContextVar[dict[str, str]] = ContextVar("problems")


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

    database_url: Annotated[SecretStr, AfterValidator(check_database_url)] | None = None
    wallet: Address | None = Field(
        None, validation_alias=seed_alias("WALLET", "STAS_TRC20_WALLET_ADDRESS")
    )
    network: Literal["mainnet", "nile", "shasta"] = "mainnet"
    usdt_contract: Address | None = None
    chain_sources: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_sources)] = (
        "tronscan",
        "trongrid",
    )
    chain_quorum: int = Field(1, ge=1, le=2)
    tronscan_url: HttpUrl | None = Field(
        None, validation_alias=seed_alias("TRONSCAN_URL", "API_ENDPOINT")
    )
    tronscan_api_key: SecretStr | None = Field(
        None, validation_alias=seed_alias("TRONSCAN_API_KEY", "API_KEY")
    )
    trongrid_url: HttpUrl | None = None
    trongrid_api_key: SecretStr | None = None
    telegram_token: SecretStr | None = Field(
        None, validation_alias=seed_alias("TELEGRAM_TOKEN", "TELEGRAM_BOT_TOKEN")
    )
    telegram_url: HttpUrl = "https://api.telegram.org"
    group_id: Annotated[int, BeforeValidator(parse_group)] | None = None
    api_token: SecretStr | None = None
    bind: Annotated[str, AfterValidator(parse_bind)] = "127.0.0.1:8000"
    timezone: Annotated[ZoneInfo, BeforeValidator(parse_zone)] = ZoneInfo("UTC")
    language: Literal["en", "ru"] = "en"
    community: str = Field("our community", max_length=100)
    support: str | None = Field(None, max_length=100)
    messages_dir: Path | None = None
    reminder_days: Annotated[tuple[int, ...], NoDecode, BeforeValidator(parse_days)] = (7, 3, 1)
    payment_max_age: Annotated[timedelta, BeforeValidator(parse_duration)] = timedelta(hours=24)
    underpayment_tolerance: MicroUsdt = Field(0, ge=0)
    expire_guard: Annotated[float, BeforeValidator(parse_share)] = 0.2
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


NEEDED = frozenset({"wallet", "telegram_token"})
MISSING = "is not set"


def _keys(secret: SecretStr | None) -> list[str]:
    text = secret.get_secret_value() if secret else ""
    return [key.strip() for key in text.split(",") if key.strip()]


def named_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Given variables by name, ours or the seed's, return the settings they set, as text."""
    found = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [PREFIX + name.upper()]
        if text := next(filter(None, (variables.get(str(each)) for each in names)), None):
            found[name] = text
    parts: dict[str, Any] = {
        name: variables.get(name.upper(), "") for name in SeedDatabase.model_fields
    }
    parts["sql_password"] = SecretStr(parts["sql_password"])
    url = SeedDatabase.model_construct(None, **parts).url
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
        seed = SeedDatabase(_env_file=path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        closed = isinstance(error, PermissionError) and path == places.ETC_FILE
        join = " Admins may: sudo adduser NAME buffettsbot, then log in anew." if closed else ""
        raise BadSettings(f"The env file {path} cannot be read: {why}.{join}") from None
    finally:
        _found.reset(token)
    if settings.database_url is None and "database_url" not in problems:
        settings = settings.model_copy(update={"database_url": seed.url})
    settings._problems.update(problems)
    return settings
