"""Fixtures of the doctor's tests: a sandbox where all is well, and settings that point at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Sandbox, open_sandbox
from examining import API_TOKEN, BOT_TOKEN, GROUP, Configure, play
from helpers import WALLET

from buffettsbot.core.settings.settings import Settings, load_settings


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def well(sandbox: Sandbox) -> Sandbox:
    """The sandbox without a fault: the bot's token is right, and it may do its work."""
    sandbox.http.delete("/_sandbox/faults").raise_for_status()
    rights = {"status": "administrator", "can_invite_users": True, "can_restrict_members": True}
    group = {"id": GROUP, "title": "The circle", "type": "supergroup", "bot": rights}
    play(sandbox, "telegram", token=BOT_TOKEN, group=group)
    for service in ("tronscan", "trongrid"):
        play(sandbox, "keys", service=service, accepted=None)
    return sandbox


@pytest.fixture
def configured(settings_env: Path, well: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Return the settings that point at the sandbox, with these changed; None unsets one."""

    def configure(**changes: object) -> Settings:
        values = {
            "wallet": WALLET,
            "database_url": f"sqlite:///{settings_env}/there.db",
            "telegram_token": BOT_TOKEN,
            "group_id": GROUP,
            "api_token": API_TOKEN,
        } | {f"{name}_url": well.url for name in ("telegram", "tronscan", "trongrid")}
        for name, value in (values | changes).items():
            monkeypatch.setenv(f"BUFFETTSBOT_{name.upper()}", str(value))
            if value is None:
                monkeypatch.delenv(f"BUFFETTSBOT_{name.upper()}")
        return load_settings()

    return configure
