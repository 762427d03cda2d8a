"""Settings: every one of the contract's, the seed's names, and secrets that stay secret."""

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from helpers import USDT, WALLET
from hypothesis import given
from hypothesis import strategies as st
from loopback import DATA

from buffettsbot.core.app import expectation_of
from buffettsbot.core.chain.tron.addresses import NETWORKS
from buffettsbot.core.errors import BadSettings
from buffettsbot.core.settings import places
from buffettsbot.core.settings.settings import Settings, load_settings, malformed
from buffettsbot.core.settings.values import parse_duration
from buffettsbot.core.storage.database import Database

pytestmark = pytest.mark.usefixtures("settings_env")

DEFAULTS: dict[str, Any] = {
    "database_url": None,
    "wallet": None,
    "network": "mainnet",
    "usdt_contract": None,
    "chain_sources": ("tronscan", "trongrid"),
    "chain_quorum": 1,
    "tronscan_url": None,
    "tronscan_api_key": None,
    "trongrid_url": None,
    "trongrid_api_key": None,
    "telegram_token": None,
    "telegram_url": "https://api.telegram.org",
    "group_id": None,
    "api_token": None,
    "bind": "127.0.0.1:8000",
    "timezone": ZoneInfo("UTC"),
    "language": "en",
    "community": "our community",
    "support": None,
    "messages_dir": None,
    "reminder_days": (7, 3, 1),
    "payment_max_age": timedelta(hours=24),
    "underpayment_tolerance": 0,
    "expire_guard": 0.2,
}


def load(env: Mapping[str, str] | None = None, file: str | None = None) -> Settings:
    """Load with these variables and this env file."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        if file is not None:
            path = Path(os.environ["HOME"]) / "the.env"
            path.write_text(file, encoding="utf-8")
            patch.setenv("BUFFETTSBOT_ENV_FILE", str(path))
        return load_settings()


def ours(**values: str) -> Settings:
    """Load with BUFFETTSBOT_<NAME> set for each of these."""
    return load({f"BUFFETTSBOT_{name.upper()}": value for name, value in values.items()})


def complaint(settings: Settings, *names: str) -> str:
    with pytest.raises(BadSettings) as caught:
        settings.require(*names)
    return str(caught.value)


def secret(value: Any) -> str:
    text: str = value.get_secret_value()
    return text


def test_nothing_set_gives_the_contracts_defaults() -> None:
    settings = load()
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    settings.require(*(set(DEFAULTS) - {"wallet", "telegram_token"}))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("wallet", WALLET, WALLET),
        ("wallet", "41f5fbe5e8725957174014dca1dc4fed54e970a2f8", WALLET),
        ("wallet", f"  {WALLET} ", WALLET),
        ("network", "nile", "nile"),
        ("network", "shasta", "shasta"),
        ("usdt_contract", USDT, USDT),
        ("chain_sources", "trongrid", ("trongrid",)),
        ("chain_sources", " TronGrid , tronscan", ("trongrid", "tronscan")),
        ("chain_quorum", "2", 2),
        ("tronscan_url", "http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        ("trongrid_url", "https://grid.example", "https://grid.example"),
        ("telegram_url", "http://localhost:8081", "http://localhost:8081"),
        ("group_id", "-1001234567890", -1001234567890),
        ("bind", "0.0.0.0:80", "0.0.0.0:80"),
        ("bind", "[::1]:8000", "[::1]:8000"),
        ("bind", "unix:/run/buffettsbot/http.sock", "unix:/run/buffettsbot/http.sock"),
        ("timezone", "Europe/Berlin", ZoneInfo("Europe/Berlin")),
        ("language", "ru", "ru"),
        ("community", "Инвесторы №1", "Инвесторы №1"),
        ("support", "@helper", "@helper"),
        ("messages_dir", "/srv/texts", Path("/srv/texts")),
        ("reminder_days", "1,14,3,3", (14, 3, 1)),
        ("reminder_days", "5", (5,)),
        ("payment_max_age", "90m", timedelta(minutes=90)),
        ("payment_max_age", "7D", timedelta(days=7)),
        ("payment_max_age", "3600", timedelta(hours=1)),
        ("underpayment_tolerance", "1", 1_000_000),
        ("underpayment_tolerance", "0.5", 500_000),
        ("expire_guard", "5%", 0.05),
        ("expire_guard", "100 %", 1.0),
        ("expire_guard", "0%", 0.0),
    ],
)
def test_every_setting_is_read_from_its_variable_and_from_the_file(
    name: str, text: str, value: Any
) -> None:
    variable = f"BUFFETTSBOT_{name.upper()}"
    for settings in (load({variable: text}), load(file=f"# a comment\n\n{variable}={text}\n")):
        settings.require(name)
        assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("database_url", "mysql://u@h/d"),
        ("database_url", "just words"),
        ("wallet", WALLET[:-1] + "x"),
        ("wallet", WALLET.lower()),
        ("wallet", "0xdAC17F958D2ee523a2206206994597C13D831ec7"[:30]),
        ("network", "testnet"),
        ("usdt_contract", "USDT"),
        ("chain_sources", "etherscan"),
        ("chain_sources", "tronscan,tronscan"),
        ("chain_sources", ","),
        ("chain_quorum", "0"),
        ("chain_quorum", "3"),
        ("chain_quorum", "two"),
        ("tronscan_url", "tronscan.org"),
        ("tronscan_url", "ftp://tronscan.org"),
        ("trongrid_url", "https://"),
        ("telegram_url", "http://[broken"),
        ("group_id", "my group"),
        ("group_id", "1.5"),
        ("group_id", "1001234567890"),
        ("bind", "8000"),
        ("bind", ":8000"),
        ("bind", "localhost"),
        ("bind", "localhost:99999"),
        ("bind", "localhost:８０８０"),
        ("bind", "unix:relative"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "Europe"),
        ("language", "de"),
        ("community", "x" * 101),
        ("support", "x" * 101),
        ("reminder_days", "7,x"),
        ("reminder_days", "0"),
        ("reminder_days", "-1"),
        ("reminder_days", "1.5"),
        ("reminder_days", "1000"),
        ("reminder_days", "７"),
        ("payment_max_age", "0"),
        ("payment_max_age", "0h"),
        ("payment_max_age", "-1h"),
        ("payment_max_age", "soon"),
        ("payment_max_age", "24 hours"),
        ("payment_max_age", "999999999w"),
        ("underpayment_tolerance", "-1"),
        ("underpayment_tolerance", "0.0000001"),
        ("underpayment_tolerance", "1e9"),
        ("underpayment_tolerance", "1 USDT"),
        ("expire_guard", "20"),
        ("expire_guard", "101%"),
        ("expire_guard", "-5%"),
        ("expire_guard", "nan%"),
    ],
)
def test_a_malformed_setting_is_named_when_it_is_needed_and_only_then(name: str, text: str) -> None:
    settings = ours(**{name: text})
    others = set(DEFAULTS) - {name, "wallet", "telegram_token"}
    settings.require(*others)
    assert f"BUFFETTSBOT_{name.upper()} is malformed" in complaint(settings, name, *others)


def test_everything_that_is_wrong_or_missing_is_named_at_once() -> None:
    settings = ours(group_id="x", timezone="x", language="x")
    text = complaint(settings, "group_id", "timezone", "wallet", "telegram_token", "bind")
    *lines, advice = text.splitlines()[1:]
    assert advice == "To be asked for what is not set: buffettsbot init"
    assert [line.split()[0] for line in lines] == [
        "BUFFETTSBOT_GROUP_ID",
        "BUFFETTSBOT_TIMEZONE",
        "BUFFETTSBOT_WALLET",
        "BUFFETTSBOT_TELEGRAM_TOKEN",
    ]
    assert lines[2].endswith("is not set")
    assert "LANGUAGE" not in text


def test_a_malformed_setting_does_not_hinder_what_does_not_need_it() -> None:
    settings = ours(wallet="broken", group_id="broken", payment_max_age="broken")
    assert settings.database.startswith("sqlite:///")
    assert settings.tronscan_base == "https://apilist.tronscanapi.com"
    with pytest.raises(BadSettings) as caught:
        _ = expectation_of(settings)
    assert "WALLET" in str(caught.value)
    assert "PAYMENT_MAX_AGE" in str(caught.value)
    assert "GROUP_ID" not in str(caught.value)


def test_an_empty_value_is_the_same_as_none() -> None:
    settings = load(dict.fromkeys((f"BUFFETTSBOT_{name.upper()}" for name in DEFAULTS), ""))
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


def test_the_environment_wins_over_the_file() -> None:
    file = "BUFFETTSBOT_LANGUAGE=ru\nBUFFETTSBOT_COMMUNITY=From the file\n"
    settings = load({"BUFFETTSBOT_LANGUAGE": "en"}, file)
    assert (settings.language, settings.community) == ("en", "From the file")


def test_the_environment_wins_by_the_seeds_name_too() -> None:
    file = "BUFFETTSBOT_TELEGRAM_TOKEN=1:file\nSQL_ENGINE=postgresql\nSQL_DATABASE=d\nSQL_HOST=h\n"
    settings = load({"TELEGRAM_BOT_TOKEN": "1:environment", "SQL_HOST": "other"}, file)
    assert secret(settings.telegram_token) == "1:environment"
    assert settings.database == "postgresql+psycopg://other/d"
    assert load({"SQL_HOST": ""}, file).database == "postgresql+psycopg://h/d"


def test_a_variable_may_be_written_in_small_letters() -> None:
    assert load({"buffettsbot_language": "ru"}, "buffettsbot_community=we\n").language == "ru"
    assert load(file="buffettsbot_community=we\n").community == "we"


def test_a_malformed_variable_does_not_fall_back_to_the_files_value() -> None:
    settings = load({"BUFFETTSBOT_LANGUAGE": "xx"}, "BUFFETTSBOT_LANGUAGE=ru\n")
    assert "LANGUAGE is malformed" in complaint(settings, "language")


def test_other_lines_of_the_file_and_other_variables_change_nothing() -> None:
    settings = load(
        {"WALLET": "x", "LANGUAGE": "ru", "DATABASE_URL": "x"},
        "LANGUAGE=ru\nexport PATH=/x\nnonsense without an equals sign\nBUFFETTSBOT_TYPO=1\n",
    )
    assert settings == load()


def test_the_first_env_file_that_exists_is_used(settings_env: Path) -> None:
    own = settings_env / ".config" / "buffettsbot" / "buffettsbot.env"
    own.parent.mkdir(parents=True)
    own.write_text("BUFFETTSBOT_COMMUNITY=own\n")
    assert load().community == "own"
    places.ETC_FILE.parent.mkdir()
    places.ETC_FILE.write_text("BUFFETTSBOT_COMMUNITY=etc\n")
    assert load().community == "etc"
    assert load(file="BUFFETTSBOT_COMMUNITY=named\n").community == "named"


def test_a_named_env_file_that_does_not_exist_is_an_error_not_silence() -> None:
    with pytest.raises(BadSettings, match="BUFFETTSBOT_ENV_FILE names /nowhere/x.env"):
        load({"BUFFETTSBOT_ENV_FILE": "/nowhere/x.env"})


def test_an_env_file_that_is_no_text_is_an_error_without_its_bytes(settings_env: Path) -> None:
    path = settings_env / "binary.env"
    path.write_bytes(b"BUFFETTSBOT_API_TOKEN=SECRET\xff\xfe\n")
    with pytest.raises(BadSettings, match="cannot be read") as caught:
        load({"BUFFETTSBOT_ENV_FILE": str(path)})
    assert "SECRET" not in str(caught.value)
    places.ETC_FILE.parent.mkdir()
    path.rename(places.ETC_FILE)
    with pytest.raises(BadSettings, match=r"UTF-8 text\.$"):  # which no group would mend
        load()


@pytest.fixture
def closed() -> Iterator[Path]:
    """A file that may not be read, not even by root, who is nobody meanwhile."""
    root = os.geteuid() == 0
    with TemporaryDirectory() as place:  # pytest's own place is shut to nobody altogether
        Path(place).chmod(0o755)
        file = Path(place) / "buffettsbot.env"
        file.touch(mode=0)
        if root:
            os.seteuid(65534)
        try:
            yield file
        finally:
            if root:
                os.seteuid(0)


def test_an_env_file_that_may_not_be_read_is_an_error(closed: Path) -> None:
    with pytest.raises(BadSettings, match=r"cannot be read: Permission denied\.$"):
        load({"BUFFETTSBOT_ENV_FILE": str(closed)})


def test_who_may_not_read_the_hosts_settings_is_told_how_to_be_let_in(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ETC_FILE", closed)
    with pytest.raises(BadSettings, match=r"denied\. Admins may: sudo adduser NAME buffettsbot"):
        load()


# The seed's names.


def test_the_seeds_own_env_file_is_understood_as_it_is() -> None:
    settings = load(file=(DATA / "seed.env").read_text(encoding="utf-8"))
    assert settings.database == (
        "postgresql+psycopg://tg-admin:tg-admin@subscriptions-db:5432/subscriptions-db-dev"
    )
    assert settings.tronscan_base == "https://apilist.tronscanapi.com"
    assert settings.tronscan_keys == ["<YOUR-API-KEY>"]
    assert secret(settings.telegram_token).startswith("<YOUR-TELEGRAM-BOT-TOKEN>")
    assert "BUFFETTSBOT_WALLET is malformed" in complaint(settings, "wallet")
    settings.require(*(set(DEFAULTS) - {"wallet"}))


def test_the_seeds_env_file_filled_in_is_enough_to_judge_payments() -> None:
    text = (DATA / "seed.env").read_text(encoding="utf-8")
    text = text.replace("<YOUR-TRC-20-WALLET>", WALLET).replace("<YOUR-API-KEY>", "k")
    settings = load(file=text)
    assert (expectation_of(settings).wallet, expectation_of(settings).contract) == (WALLET, USDT)
    Database(settings.database).close()


def test_the_seeds_names_work_in_the_environment_too() -> None:
    settings = load(
        {
            "STAS_TRC20_WALLET_ADDRESS": WALLET,
            "API_ENDPOINT": "https://tron.example/api/transaction-info?hash",
            "API_KEY": "a,b",
            "TELEGRAM_BOT_TOKEN": "1:token",
            "SQL_ENGINE": "django.db.backends.sqlite3",
            "SQL_DATABASE": "/srv/db.sqlite3",
        }
    )
    assert settings.wallet == WALLET
    assert settings.tronscan_base == "https://tron.example"
    assert settings.tronscan_keys == ["a", "b"]
    assert secret(settings.telegram_token) == "1:token"
    assert settings.database == "sqlite:////srv/db.sqlite3"


def test_our_name_wins_over_the_seeds() -> None:
    env = {
        "BUFFETTSBOT_WALLET": WALLET,
        "STAS_TRC20_WALLET_ADDRESS": "broken",
        "BUFFETTSBOT_DATABASE_URL": "sqlite:////srv/ours.db",
        "SQL_ENGINE": "django.db.backends.postgresql",
        "SQL_DATABASE": "theirs",
    }
    for settings in (load(env), load(file="".join(f"{k}={v}\n" for k, v in env.items()))):
        assert expectation_of(settings).wallet == WALLET
        assert settings.database == "sqlite:////srv/ours.db"


def test_a_malformed_database_url_is_not_replaced_by_the_seeds() -> None:
    settings = load(
        {"BUFFETTSBOT_DATABASE_URL": "mysql://x", "SQL_ENGINE": "sqlite3", "SQL_DATABASE": "/x"}
    )
    with pytest.raises(BadSettings, match="DATABASE_URL is malformed"):
        _ = settings.database


def test_odd_letters_in_the_seeds_password_survive() -> None:
    odd = "p@ss:w/rd?#%&"
    env = {
        "SQL_ENGINE": "django.db.backends.postgresql",
        "SQL_DATABASE": "d b",
        "SQL_USER": "u@x",
        "SQL_PASSWORD": odd,
        "SQL_HOST": "db",
    }
    url = Database(load(env).database).engine.url
    assert (url.username, url.password, url.host, url.database) == ("u@x", odd, "db", "d b")


@pytest.mark.parametrize("missing", ["SQL_ENGINE", "SQL_DATABASE"])
def test_half_of_the_seeds_database_is_none(missing: str) -> None:
    env = {"SQL_ENGINE": "django.db.backends.postgresql", "SQL_DATABASE": "x", "SQL_HOST": "h"}
    del env[missing]
    assert load(env).database.startswith("sqlite:///")


# What is derived.


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://u:p@h:5/d", "postgresql+psycopg://u:p@h:5/d"),
        ("postgresql://u@/d?host=/run", "postgresql+psycopg://u@/d?host=/run"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:////srv/x.db", "sqlite:////srv/x.db"),
    ],
)
def test_postgres_urls_of_every_form_mean_psycopg(text: str, url: str) -> None:
    assert ours(database_url=text).database == url


def test_the_default_database_is_a_file_in_the_users_data_directory(settings_env: Path) -> None:
    path = settings_env / ".local" / "share" / "buffettsbot" / "buffettsbot.db"
    assert load().database == f"sqlite:///{path}"


def test_the_default_database_of_an_installed_service_is_in_its_state_directory() -> None:
    places.SERVICE_STATE.mkdir(parents=True)
    places.ETC_FILE.parent.mkdir()
    places.ETC_FILE.touch()
    path = places.SERVICE_STATE / "buffettsbot.db"
    assert load().database == f"sqlite:///{path}"


@pytest.mark.parametrize("network", ["mainnet", "nile", "shasta"])
def test_the_network_picks_hosts_and_contract_and_each_can_be_overridden(network: str) -> None:
    chosen = NETWORKS[network]
    settings = ours(network=network, wallet=WALLET)
    assert settings.tronscan_base == chosen.tronscan_url
    assert settings.trongrid_base == chosen.trongrid_url
    assert expectation_of(settings).contract == chosen.usdt_contract
    settings = ours(network=network, wallet=WALLET, usdt_contract=USDT, trongrid_url="http://x")
    assert (expectation_of(settings).contract, settings.trongrid_base) == (USDT, "http://x")


def test_the_expectation_holds_what_the_owner_chose() -> None:
    settings = ours(
        wallet=WALLET, payment_max_age="2d", underpayment_tolerance="1.5", hold_risky="true"
    )
    wanted = expectation_of(settings)
    assert (wanted.max_age, wanted.tolerance, wanted.hold_risky) == (
        timedelta(days=2),
        1_500_000,
        True,
    )


def test_several_api_keys_are_split_and_blanks_left_out() -> None:
    settings = ours(tronscan_api_key=" a, b ,,c,", trongrid_api_key=",")
    assert settings.tronscan_keys == ["a", "b", "c"]
    assert settings.trongrid_keys == []


def test_systemd_credentials_are_read(settings_env: Path) -> None:
    directory = settings_env / "credentials"
    directory.mkdir()
    (directory / "buffettsbot_telegram_token").write_text("1:from-systemd\n")
    settings = load({"CREDENTIALS_DIRECTORY": str(directory)})
    assert secret(settings.telegram_token) == "1:from-systemd"


def test_a_credential_gives_way_to_the_file_and_an_empty_one_sets_nothing(
    settings_env: Path,
) -> None:
    directory = settings_env / "credentials"
    directory.mkdir()
    (directory / "buffettsbot_telegram_token").write_text("1:from-systemd\n")
    (directory / "buffettsbot_api_token").write_text("\n")
    (directory / "of_another_program").write_bytes(b"\xff")
    env = {"CREDENTIALS_DIRECTORY": str(directory)}
    settings = load(env, "BUFFETTSBOT_TELEGRAM_TOKEN=1:from-file\n")
    assert secret(settings.telegram_token) == "1:from-file"
    assert settings.api_token is None
    assert load(env | {"CREDENTIALS_DIRECTORY": "/nowhere"}) == load()


def test_what_is_given_as_text_is_judged_without_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUFFETTSBOT_LANGUAGE", "xx")
    monkeypatch.setenv("BUFFETTSBOT_GROUP_ID", "-7")
    assert malformed({"timezone": "UTC"}) == {}
    assert malformed({"group_id": "7"}).keys() == {"group_id"}


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().language = "ru"  # type: ignore[misc]


# Secrets.

SECRETS = {
    "BUFFETTSBOT_DATABASE_URL": "postgresql://u:SECRET-1@h/d",
    "BUFFETTSBOT_TRONSCAN_API_KEY": "SECRET-2",
    "BUFFETTSBOT_TRONGRID_API_KEY": "SECRET-3",
    "BUFFETTSBOT_TELEGRAM_TOKEN": "123:SECRET-4",
    "BUFFETTSBOT_API_TOKEN": "SECRET-5",
}


def test_no_secret_shows_in_any_form_of_the_settings() -> None:
    settings = load(SECRETS)
    for text in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r:s}"):
        assert "SECRET" not in text
    assert "SECRET" not in str(settings.model_dump())
    assert "SECRET-4" in secret(settings.telegram_token), "the test itself would be blind"


def test_no_secret_shows_in_a_complaint() -> None:
    env = dict.fromkeys(SECRETS, "SECRET\0odd") | {
        "BUFFETTSBOT_DATABASE_URL": "mysql://u:SECRET@h/d",
        "BUFFETTSBOT_TRONSCAN_URL": "SECRET",
        "BUFFETTSBOT_GROUP_ID": "SECRET",
        "BUFFETTSBOT_BIND": "SECRET",
        "BUFFETTSBOT_CHAIN_QUORUM": "SECRET",
        "BUFFETTSBOT_LANGUAGE": "SECRET",
    }
    env = {name: value.replace("\0", "") for name, value in env.items()}
    text = complaint(load(env), *DEFAULTS)
    assert text.count("is malformed") == 6
    assert "SECRET" not in text


def test_the_seeds_password_is_masked_like_ours() -> None:
    settings = load(
        {"SQL_ENGINE": "postgresql", "SQL_DATABASE": "d", "SQL_PASSWORD": "SECRET", "SQL_HOST": "h"}
    )
    assert "SECRET" not in repr(settings)
    assert "SECRET" in settings.database


@given(st.text())
def test_no_text_at_all_makes_the_duration_parser_crash(text: str) -> None:
    try:
        assert parse_duration(text) > timedelta(0)
    except ValueError as error:
        assert str(error) == "write a duration such as 24h, 90m or 7d"
