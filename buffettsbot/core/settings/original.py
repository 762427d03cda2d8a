"""The original system's names for settings, so that its env file can be used as it is."""

from collections.abc import Mapping
from urllib.parse import quote

SEED_NAMES = {
    "wallet": "STAS_TRC20_WALLET_ADDRESS",
    "tronscan_url": "API_ENDPOINT",
    "tronscan_api_key": "API_KEY",
    "telegram_token": "TELEGRAM_BOT_TOKEN",
}


def seed_database_url(variables: Mapping[str, str]) -> str | None:
    """Return the SQLAlchemy URL that the seed's variables mean, None when they name no database."""
    engine, database = variables.get("SQL_ENGINE"), variables.get("SQL_DATABASE")
    if not engine or not database:
        return None
    if engine.endswith("sqlite3"):
        return f"sqlite:///{database}"
    login = quote(variables.get("SQL_USER", ""), safe="")
    if password := variables.get("SQL_PASSWORD"):
        login += ":" + quote(password, safe="")
    host = variables.get("SQL_HOST", "")
    if login:
        host = f"{login}@{host}"
    if port := variables.get("SQL_PORT"):
        host = f"{host}:{port}"
    return f"postgresql+psycopg://{host}/{quote(database, safe='')}"
