"""What is said about the commands is true: help, README, docs/, and the hints in messages."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
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
from buffettsbot.core.settings.places import PREFIX
from buffettsbot.core.settings.settings import Settings
from buffettsbot.core.storage.database import Database
from buffettsbot.http.metrics import Metrics

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
PACKAGE = Path(buffettsbot.__file__).parent
HEAVY = (
    "alembic",
    "bottle",
    "httpcore",
    "httpx",
    "prometheus_client",
    "psycopg",
    "pygal",
    "rich",
    "sqlalchemy",
    "sqlmodel",
    "waitress",
)


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
            assert not re.search(r"[{}]|\[\[", shown.stdout.partition("\n")[0]), name
    for name in GROUPS:
        bare = run.inside(name)
        assert bare.code == 2
        assert "Commands:" in bare.stderr
        assert "...\n" not in bare.stderr.partition("Commands:")[2], name
    shown = run("--help")
    assert all(f"\n  {name} " in shown.stdout for name in COMMANDS)
    assert all(words in shown.stdout for words in COMMANDS.values())
    run("plnas", "list").refused(2, "Did you mean 'plans'")
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


def test_a_command_that_opens_the_database_loads_only_what_it_needs(sqlite_url: str) -> None:
    shown, loaded = _imported("plans", "list", "--json", BUFFETTSBOT_DATABASE_URL=sqlite_url)
    assert shown == "[]\n"
    assert set(loaded) <= {"rich", "sqlalchemy", "sqlmodel"}


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed_for_every_shell(shell: str, tmp_path: Path) -> None:
    script, loaded = _imported(_BUFFETTSBOT_COMPLETE=f"source_{shell}")
    assert "buffettsbot" in script
    assert loaded == []
    file = tmp_path / "completion"
    file.write_text(script, encoding="utf-8")
    if shutil.which(shell):
        assert _runs(shell, "-n", str(file)).returncode == 0


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_a_command_is_fast_in_other_shells(shell: str) -> None:
    asked = {
        "_BUFFETTSBOT_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "buffettsbot p",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    shown, loaded = _imported(**asked)
    assert all(name in shown for name in COMMANDS if name.startswith("p"))
    assert set(loaded) <= {"rich"}  # which Typer takes to tell these shells what each is for


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


# The pages


def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _typed(page: Path) -> Iterator[str]:
    """Yield every command that a page tells people to type, in a block or within a sentence."""
    text = _read(page)
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```", text, re.DOTALL)
    inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", inline)]
    for line in [*(line for block in blocks for line in block.splitlines()), *spans]:
        words = re.sub(r"^\s*(sudo |[A-Z_]+=\S* )*", "", line.split("  #")[0]).strip()
        if words.split(" ")[0] in set(COMMANDS) and " " in words:
            yield words
        elif words.startswith("buffettsbot "):
            yield words.removeprefix("buffettsbot ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_types_can_be_typed(page: Path) -> None:
    typed = list(_typed(page))
    for line in typed:
        words = shlex.split(line)
        if not words[0].startswith("-"):
            _check(words, line)
    few = {"settings.md": 1, "architecture.md": 1, "api.md": 4, "README.md": 4}
    assert len(typed) >= few.get(page.name, 10)


def _check(words: list[str], where: str) -> None:
    """Check that words name a command, and that the options among them are its own."""
    name = words[0] if words[0] not in GROUPS else " ".join(words[:2])
    assert name in EVERY, where
    known = {option for parameter in EVERY[name].params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word in known | {"--help"}, where


def _anchors(page: Path) -> set[str]:
    """Return where links into a page may point, as its headings are known on the web."""
    headings = re.findall(r"^#+ (.+)$", _read(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", _read(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name}: {path}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {path}#{anchor}"


def test_the_readme_is_one_page_and_names_every_other() -> None:
    assert len(_readme().splitlines()) <= 125
    assert all(f"docs/{page.name}" in _readme() for page in PAGES[1:])


def test_the_readme_says_why_each_dependency_is_there() -> None:
    project = tomllib.loads(_read(ROOT / "pyproject.toml"))["project"]
    table = _readme().partition("## Dependencies")[2]
    for wanted in project["dependencies"]:
        name = re.split(r"[\[><=]", wanted)[0]
        assert re.search(rf"^\|.*\b{name}\b.*\|.+\|$", table, re.MULTILINE), name


def _said_by_the_program() -> str:
    """Return all words that stand in the program, each text on a line."""
    words = [
        node.value
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(_read(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(" ".join(text.split()) for text in words)


def test_the_symptoms_in_the_guide_are_the_programs_own_words() -> None:
    said = _said_by_the_program()
    symptoms = re.findall(r"^> (.+)$", _read(DOCS / "admin.md"), re.MULTILINE)
    assert len(symptoms) >= 15
    for symptom in symptoms:
        for piece in symptom.split("…"):
            assert piece.strip() in said, symptom


def test_every_setting_is_documented_with_its_default(settings_env: Path) -> None:
    rows = dict(
        re.findall(r"^\| `BUFFETTSBOT_(\w+)` \| (.+?) \|", _read(DOCS / "settings.md"), re.M)
    )
    assert {name.lower() for name in rows} == set(Settings.model_fields)
    for name, default in rows.items():
        if default.startswith("`"):
            given = Settings(**{name.lower(): default.strip("`")})
            assert getattr(given, name.lower()) == getattr(Settings(), name.lower()), name
        else:
            assert getattr(Settings(), name.lower()) is None, name


def test_every_setting_that_a_page_names_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "ENV_FILE"}
    for page in PAGES:
        assert set(re.findall(r"BUFFETTSBOT_[A-Z_]+[A-Z]", _read(page))) <= known, page.name


def test_the_metrics_that_the_guide_names_are_there(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    try:
        there = set(re.findall(r"^# TYPE (buffettsbot_\w+)", Metrics(db).text().decode(), re.M))
    finally:
        db.close()
    named = set(re.findall(r"\bbuffettsbot_\w+", _read(DOCS / "operations.md")))
    assert named == {name for name in there if not name.endswith("_created")}


# What is made from the program


def _runs(*command: str) -> "subprocess.CompletedProcess[str]":
    env = clean_env("sqlite://") | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)


def test_the_reference_and_the_man_page_are_up_to_date() -> None:
    done = _runs(sys.executable, str(ROOT / "scripts" / "make-reference"), "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_has_every_command_and_option() -> None:
    reference, page = _read(DOCS / "commands.md"), _read(DOCS / "buffettsbot.1")
    for name, command in EVERY.items():
        assert f"# {name}\n" in reference
        assert name in GROUPS or f".SS buffettsbot {name}".replace("-", "\\-") in page
        for option in (option for parameter in command.params for option in parameter.opts):
            assert not option.startswith("--") or option in reference, f"{name} {option}"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_is_sound() -> None:
    done = _runs("groff", "-Tutf8", "-man", "-ww", "-z", str(DOCS / "buffettsbot.1"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["demo", "subscribers"])
def test_the_pictures_are_light_and_ask_nobody_for_anything(name: str) -> None:
    picture = DOCS / "pictures" / f"{name}.svg"
    assert picture.stat().st_size < 60_000
    assert f"docs/pictures/{name}.svg" in _readme()
    assert "url(http" not in _read(picture)
    assert "href=" not in _read(picture)


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


def test_every_path_in_the_architecture_exists() -> None:
    text = (DOCS / "architecture.md").read_text()
    paths = re.findall(r"`((?:buffettsbot|core|scripts|systemd|tests)/[\w./]*)`", text)
    assert len(paths) > 30
    missing = [p for p in paths if not ((ROOT / p).exists() or (PACKAGE / p).exists())]
    assert not missing
