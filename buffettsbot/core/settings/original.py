"""The original system's names for settings, so that its env file can be used as it is."""

from urllib.parse import quote

from pydantic import AliasChoices, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from buffettsbot.core.settings.places import PREFIX


def seed_alias(name: str, seed_name: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, seed_name)


class SeedDatabase(BaseSettings):
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
