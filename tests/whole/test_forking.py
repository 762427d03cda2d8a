"""The command line in forked processes does what it does in one that starts alone."""

import subprocess
import sys

import forking
import pytest
from commands import PROGRAM, ROOT
from helpers import clean_env, person, shop

from buffettsbot.core.storage.database import Database

LINES = (
    "--version",
    "plans list --json",
    "plans retire 1month",  # asks, and nobody answers
    "plans nonsense",
    "users show nobody --json",
    "users list --csv",
    "db status",
    "verify --help",
    "pass expire",
)


@pytest.mark.parametrize("line", LINES)
def test_a_forked_process_does_what_one_does_that_starts_alone(line: str, sqlite_url: str) -> None:
    db = Database(sqlite_url)
    shop(db)
    person(db, 7, "zoe", first_name="Зоя 🦊")
    db.close()
    env = clean_env(sqlite_url)
    alone = subprocess.run(
        [*PROGRAM, *line.split()], env=env, cwd=ROOT, input="", capture_output=True, text=True
    )
    forked = forking.run(*line.split(), env=env, stdin="", timeout=60)
    assert forked == (alone.returncode, alone.stdout, alone.stderr)


def test_what_an_interpreter_reads_when_it_starts_is_read_by_one_of_its_own() -> None:
    usual = clean_env("sqlite://")
    assert forking.is_possible(usual)
    for other in ({"LC_ALL": "POSIX"}, {"PYTHONUTF8": "0"}, {"PYTHONWARNINGS": "error"}):
        assert not forking.is_possible(usual | other)
    assert not forking.is_possible(usual, ("unshare", "--mount"))


def test_a_child_begins_without_anything_of_ours() -> None:
    there = (
        "import importlib, sys\n"
        f"for name in {forking.LIBRARIES!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.startswith('buffettsbot')])"
    )
    done = subprocess.run([sys.executable, "-c", there], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_a_signal_ends_it_and_is_told(sqlite_url: str) -> None:
    service = forking.start(
        "serve", "--bind", "127.0.0.1:0", env=clean_env(sqlite_url), stderr=subprocess.PIPE
    )
    assert service.stderr is not None
    assert "No BUFFETTSBOT_API_TOKEN is set" in service.stderr.readline()
    assert service.stderr.readline().startswith("Serving on ")
    assert service.poll() is None
    service.kill()
    assert service.wait(60) == -9
    service.stderr.close()
