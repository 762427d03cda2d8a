"""What is put on a host: the lock file, the units, the scripts. The real host is scripts/test-host.

Some need systemd's tools or shellcheck, and are skipped where a machine has none.
"""

import re
import shutil
import subprocess
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from commands import ROOT
from packaging.requirements import Requirement

SYSTEMD = ROOT / "systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
TIMERS = sorted(SYSTEMD.glob("*.timer"))
needs = {
    name: pytest.mark.skipif(not shutil.which(name), reason=f"no {name}")
    for name in ("systemd-analyze", "shellcheck")
}


def locked() -> dict[str, str]:
    """Return the version of each package in the lock file."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", text, re.MULTILINE))


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = project["project"]["dependencies"] + project["build-system"]["requires"]
    for requirement in map(Requirement, asked):
        version = locked().get(requirement.name)
        assert version, f"{requirement.name} is not in requirements.lock: run scripts/lock"
        assert version in requirement.specifier, f"{requirement} asks for another: run scripts/lock"


def test_every_locked_package_has_hashes_and_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    blocks = re.split(r"\n(?=\w)", text)
    assert len(locked()) > 25
    assert sum("--hash=sha256:" in block for block in blocks) == len(locked())
    assert "://" not in text


@needs["shellcheck"]
@pytest.mark.parametrize("name", ["install.sh", "uninstall.sh", "lock", "../.ci/run"])
def test_the_shell_scripts_are_clean(name: str) -> None:
    script = ROOT / "scripts" / name
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_timer_starts_a_unit_that_there_is() -> None:
    assert [p.stem for p in TIMERS] == [
        f"buffettsbot-{n}" for n in ("backup", "deliver", "expire", "remind", "settle")
    ]
    for timer in TIMERS:
        text = timer.read_text("utf-8")
        (unit,) = re.findall(r"^Unit=(\S+)$", text, re.MULTILINE)
        assert (SYSTEMD / re.sub(r"@\w+", "@", unit)).is_file(), unit
        assert "Persistent=true" in text


@needs["systemd-analyze"]
@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_every_service_is_shut_in(service: Path, tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    (units / f"{service.name}.d").mkdir(parents=True)
    shutil.copy(service, units)
    shutil.copy(SYSTEMD / "hardening.conf", units / f"{service.name}.d")
    unit = service.name.replace("@.", "@settle.")
    analyze = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--root={tmp_path}"]
    done = subprocess.run([*analyze, unit], capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert found is not None, done
    assert float(found[1]) <= 2.0, done.stdout


def test_every_loosened_line_says_why() -> None:
    text = (SYSTEMD / "hardening.conf").read_text("utf-8")
    for line in ("UMask=0007", "SystemCallFilter=sched_setaffinity", "RestrictAddressFamilies="):
        above = text[: text.index(f"\n{line}")].rpartition("\n\n")[2]
        assert "# Loosened: " in above, line


@needs["systemd-analyze"]
@pytest.mark.parametrize("name", ["settle", "deliver"])
def test_a_pass_of_each_minute_misses_none_as_summer_time_ends(name: str) -> None:
    text = (SYSTEMD / f"buffettsbot-{name}.timer").read_text("utf-8")
    (calendar,) = re.findall(r"^OnCalendar=(.+)$", text, re.MULTILINE)
    command = ["systemd-analyze", "calendar", "--iterations=130", calendar]
    done = subprocess.run(
        [*command, "--base-time=2026-10-25 00:00:00 UTC"],
        env={"TZ": "Europe/Berlin", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"\(in UTC\): \w+ (\S+ \S+) UTC", done.stdout)
    times = [datetime.fromisoformat(each) for each in found]
    assert len(times) == 130
    gaps = {later - earlier for earlier, later in zip(times, times[1:], strict=False)}
    assert gaps == {timedelta(minutes=1)}
