"""The doctor's look at this host: settings, secrets, the wallet, the disk and the timers."""

import shutil
from pathlib import Path

import pytest
from commands import ROOT
from examining import API_TOKEN, Configure, only, told
from helpers import USDT, WALLET

from buffettsbot.core.health import host as host_checks
from buffettsbot.core.health.host import (
    check_api,
    check_disk,
    check_env_file,
    check_settings,
    check_timers,
    check_wallet,
)
from buffettsbot.core.settings.settings import load_settings


def test_every_malformed_setting_has_its_line_and_a_typing_error_its_guess(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert told(check_settings(configured(), None)) == [("settings", "ok")]
    monkeypatch.setenv("BUFFETTSBOT_TIMEZON", "UTC")
    found = list(check_settings(configured(timezone="Nowhere", language="xx"), None))
    assert told(found) == [("settings", s) for s in ("failed", "failed", "warning")]
    assert "BUFFETTSBOT_TIMEZONE?" in found[2].advice
    monkeypatch.delenv("BUFFETTSBOT_TIMEZON")
    configured(timezone="UTC", language="en")
    quorum = check_settings(configured(chain_quorum=2, chain_sources="tronscan"), None)
    assert told(quorum) == [("settings", "failed")]
    configured(chain_quorum=1)
    odd = list(check_settings(configured(bind="nonsense"), None))
    assert told(odd) == [("settings", "failed")]
    assert "the environment" in odd[0].advice
    configured(bind="127.0.0.1:8000")
    assert told(check_settings(configured(telegram_token=None), None)) == [("settings", "ok")]
    configured()
    file = tmp_path / "the.env"
    file.write_text("BUFFETTSBOT_TIMEZON=UTC\nOTHER=x\n")
    monkeypatch.setenv("BUFFETTSBOT_ENV_FILE", str(file))
    found = list(check_settings(load_settings(), file))
    assert told(found) == [("settings", "warning"), ("settings", "ok")]
    assert str(file) in found[1].found
    monkeypatch.delenv("BUFFETTSBOT_ENV_FILE")
    assert "no env file" in only(check_settings(load_settings(), None), "settings").found
    texts = list(check_settings(configured(messages_dir=tmp_path / "gone"), None))
    assert texts[0].advice.endswith("buffettsbot messages check")


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        *((0o600, "ok"), (0o640, "ok"), (0o660, "warning"), (0o620, "warning")),
        *((0o644, "failed"), (0o602, "failed"), (0o601, "failed"), (0o664, "failed")),
    ],
)
def test_nobody_else_reads_the_env_file(tmp_path: Path, mode: int, status: str) -> None:
    file = tmp_path / "the.env"
    file.touch()
    file.chmod(mode)
    assert told(check_env_file(file)) == [("env file", status)]
    file.unlink()
    assert told(check_env_file(file)) == [("env file", "failed")]


@pytest.mark.parametrize(
    ("wallet", "status"),
    [(WALLET, "ok"), (WALLET[:-1] + "x", "failed"), (USDT, "failed"), (None, "failed")],
)
def test_the_wallet_is_a_wallet(configured: Configure, wallet: str | None, status: str) -> None:
    assert told(check_wallet(configured(wallet=wallet))) == [("wallet", status)]
    if status == "ok":
        configured(usdt_contract=wallet)
        assert told(check_wallet(configured(wallet=wallet))) == [("wallet", "failed")]


@pytest.mark.parametrize(
    ("token", "status"), [(API_TOKEN[:16], "ok"), (None, "warning"), (API_TOKEN[:15], "warning")]
)
def test_the_api_asks_for_a_token(configured: Configure, token: str | None, status: str) -> None:
    found = list(check_api(configured(api_token=token)))
    assert told(found) == [("api", status)]
    assert not token or token not in str(found)


def test_a_full_disk_is_seen_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host_checks.FULL == 100 * 2**20 < 2**30 == host_checks.NEARLY_FULL
    there = shutil.disk_usage(tmp_path)
    for free, status in (
        (2**30, "ok"),
        (2**30 - 1, "warning"),
        (100 * 2**20, "warning"),
        (1, "failed"),
    ):
        usage = there._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert told(check_disk(tmp_path)) == [("disk", status)]
    monkeypatch.undo()
    assert told(check_disk(tmp_path / "gone")) == [("disk", "unknown")]


def test_only_units_that_are_installed_are_expected_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path / "none")
    assert told(check_timers()) == []
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path)
    states = [("loaded", "active"), ("loaded", "inactive"), *[("not-found", "inactive")] * 3]
    states.append(("loaded", "failed"))
    shown = "\\n".join(f"LoadState={load}\\nActiveState={state}\\n" for load, state in states)
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\nprintf '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = list(check_timers())
    assert told(found) == [("timers", "ok"), ("timers", "failed"), ("service", "failed")]
    assert found[1].advice == "Run: sudo systemctl enable --now buffettsbot-deliver.timer"


def test_every_unit_that_is_shipped_is_expected_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {path.name for path in (ROOT / "systemd").glob("*.timer")}
    assert set(host_checks.UNITS) == shipped | {"buffettsbot-http.service"}
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(check_timers()) == []  # without systemctl, the last runs have to tell
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho LoadState=loaded\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    assert told(check_timers()) == []
