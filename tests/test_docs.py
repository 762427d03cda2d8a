"""What is said about the commands is true: their help, the README, and the hints in messages."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import PATIENCE, ROOT, Commands
from helpers import clean_env

import buffettsbot
from buffettsbot.cli import COMMANDS, app
from buffettsbot.core import errors

README = ROOT / "README.md"
PACKAGE = Path(buffettsbot.__file__).parent
HEAVY = ("alembic", "bottle", "httpx", "psycopg", "rich", "sqlalchemy", "sqlmodel")


def _root() -> Any:
    return typer.main.get_command(app)


def _command(name: str) -> Any:
    """Return a top-level command as it is when it runs."""
    root = _root()
    return root.resolve_command(typer.Context(root), [name])[1]


def _every() -> Iterator[tuple[str, Any]]:
    """Yield every command and group there is, with its name as it is typed."""
    for name in COMMANDS:
        command = _command(name)
        yield name, command
        for sub, subcommand in getattr(command, "commands", {}).items():
            yield f"{name} {sub}", subcommand


EVERY = dict(_every())
GROUPS = {name: set(c.commands) for name, c in EVERY.items() if hasattr(c, "commands")}


# Help


def test_there_are_commands() -> None:
    assert "subscribers claim" in EVERY
    assert set(GROUPS) >= {"plans", "users", "subscribers", "payments", "pass", "db"}


@pytest.mark.parametrize("name", EVERY)
def test_every_command_and_option_has_help(name: str) -> None:
    command = EVERY[name]
    assert command.help, name
    assert command.help.strip().endswith(".") or "." in command.help, name
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
        assert parameter.help[0] in '"@' or parameter.help[0].isupper(), f"{name} {parameter.name}"


def test_the_words_of_the_root_are_those_of_the_groups() -> None:
    for name, words in COMMANDS.items():
        listed = words.rstrip(".").partition(": ")[2]
        if listed:
            assert set(listed.split(", ")) == GROUPS[name], name


def test_help_is_shown_for_everything() -> None:
    run = Commands("sqlite:////nowhere/that/help/looks.db")
    for name in ("", *EVERY):
        for option in ("--help", "-h") if name in COMMANDS else ("--help",):
            shown = run.inside(*name.split(), option)
            assert (shown.code, shown.stderr) == (0, ""), name
            assert shown.stdout.startswith(f"Usage: buffettsbot {name}".rstrip()), name
    for name in GROUPS:
        bare = run.inside(name)
        assert bare.code == 2
        assert "Commands:" in bare.stderr
    shown = run("--help")
    assert all(f"\n  {name} " in shown.stdout for name in COMMANDS)
    assert run("plans", "--help").stdout.startswith("Usage: buffettsbot plans")
    version = run("--version")
    assert version.stdout == f"buffettsbot {buffettsbot.__version__}\n"


def _imported(*arguments: str, **environment: str) -> tuple[str, list[str]]:
    """Run the root in a fresh process; return what it wrote, and the heavy modules it loaded."""
    script = (
        "import sys\n"
        "from buffettsbot.cli import main\n"
        f"sys.argv = ['buffettsbot', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end\n"
        f"print('LOADED', *sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_env("sqlite://") | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    shown, _, loaded = done.stdout.rpartition("LOADED")
    return shown, loaded.split()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_root_answers_at_once(option: str) -> None:
    shown, loaded = _imported(option)
    assert "buffettsbot" in shown
    assert loaded == []


def test_completion_of_a_command_is_as_fast() -> None:
    asked = {
        "_BUFFETTSBOT_COMPLETE": "complete_bash",
        "COMP_WORDS": "buffettsbot ",
        "COMP_CWORD": "1",
    }
    shown, loaded = _imported(**asked)
    assert set(shown.split()) == set(COMMANDS)
    assert loaded == []
    shown, _ = _imported(**asked | {"COMP_WORDS": "buffettsbot plans ", "COMP_CWORD": "2"})
    assert set(shown.split()) == GROUPS["plans"]


# The README


def _readme() -> str:
    assert README.is_file(), "the README is gone"
    return README.read_text(encoding="utf-8")


def _table_row(first_cell: str) -> str:
    found = [line for line in _readme().splitlines() if line.startswith(f"| {first_cell} |")]
    assert len(found) == 1, f"the README has {len(found)} rows for {first_cell}"
    return found[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    row = _table_row(f"`{name}`")
    for subcommand in GROUPS.get(name, ()):
        assert re.search(rf"[ `]{subcommand}[,` ]", row), f"the README lacks {name} {subcommand}"


def test_the_readme_has_the_exit_codes() -> None:
    codes = {0: "done", 1: "a bug", 2: "wrong usage", 4: "the answer is no", 5: "not now"}
    epilogue = re.sub(r"\s+", " ", EVERY["plans"].help and str(_root().help))
    for code, words in codes.items():
        assert words in _table_row(str(code))
        assert f"{code} {words}" in epilogue
    raised = {e.exit_code for e in _all_errors()}
    assert raised <= set(codes)


def _all_errors(kind: type[errors.BuffettsbotError] | None = None) -> list[Any]:
    kinds = (kind or errors.BuffettsbotError).__subclasses__()
    return [k("x") for k in kinds] + [e for k in kinds for e in _all_errors(k)]


def _typed_in_readme() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", _readme(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("buffettsbot ")]


def test_what_the_readme_types_can_be_typed() -> None:
    typed = _typed_in_readme()
    assert len(typed) >= 5
    for line in typed:
        words = shlex.split(line)[1:]
        _check(words, line)


def _check(words: list[str], where: str) -> None:
    """Check that words name a command, and that the options among them are its own."""
    name = words[0] if words[0] not in GROUPS else " ".join(words[:2])
    assert name in EVERY, where
    known = {option for parameter in EVERY[name].params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word in known | {"--help"}, where


# Hints in messages


def _hints() -> Iterator[tuple[str, str]]:
    """Yield every `buffettsbot group command` that the program's own texts tell people to type."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for hint in re.findall(r"(?<![\w/.])buffettsbot (\w[\w-]* ?[\w-]*)", node.value):
                    yield str(path.relative_to(PACKAGE)), hint


def test_the_commands_that_messages_name_exist() -> None:
    found = 0
    for where, hint in _hints():
        words = hint.split()
        if words[0] in COMMANDS:
            found += 1
            _check(words, f"{where}: {hint}")
    assert found >= 10
