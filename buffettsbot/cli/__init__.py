"""The admins' command line: options, one call into the core, output.

Groups are imported when they are used, so that `--help` and `--version` stay instant; every
deliberate error becomes one sentence on stderr and one exit code here, and nowhere else.
"""

import errno
import io
import json
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from buffettsbot import __version__
from buffettsbot.core.errors import BuffettsbotError, Unavailable

# What each module holds, in the words that `buffettsbot --help` shows without importing it.
COMMANDS = {
    "init": "Ask for the settings, write them, and make the database.",
    "doctor": "Check that everything is right; say what to do where not.",
    "verify": "Judge a transaction hash; changes nothing.",
    "plans": "What is on sale.",
    "users": "Who is known, and who is staff.",
    "subscribers": "Who is in: list, show, claim, grant, revoke.",
    "payments": "The ledger of every hash ever claimed.",
    "stats": "Members, income, renewals, and what is coming due.",
    "pass": "What the timers run, and the audit of the group.",
    "outbox": "What waits to be sent, and what was.",
    "messages": "What people are told: preview, check.",
    "audit": "Who changed what by hand.",
    "serve": "Serve the HTTP API for the bot.",
    "schedule": "Run the passes at their times, for hosts without systemd.",
    "db": "The database, its backups, and the import from Django.",
    "sandbox": "Serve an emulated TRON and Telegram on loopback.",
    "demo": "Play the whole story in a temporary place.",
}
_MODULES = {"pass": "passes"}


class Command(TyperCommand):
    """A command whose usage line says HASH, where typer writes {HASH}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Root(TyperGroup):
    """The commands, loaded on demand, and the one place where deliberate errors end."""

    def __init__(self, **settings: Any) -> None:
        """Hold stand-ins that know their help; `resolve_command` loads the real ones."""
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=words) for name, words in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command that is to run."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            module = import_module(f"buffettsbot.cli.{_MODULES.get(name or '', name)}")
            for registered in module.commands.registered_commands:
                registered.cls = Command
            command = typer.main.get_command(module.commands)
            command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of ours is a sentence and an exit code, not a traceback."""
        try:
            return self._run(ctx)
        except BuffettsbotError as error:
            raise _complain(error, ctx) from None
        except BrokenPipeError:  # `| head` has seen enough
            _forget_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _forget_stdout()
            full = Unavailable("The output cannot be written: the disk is full. Make room first.")
            raise _complain(full, ctx) from None

    def _run(self, ctx: Any) -> Any:
        """Run a command, and see to it that all of its output has left."""
        try:
            result = super().invoke(ctx)
        except typer.Exit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return result


def _forget_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: BuffettsbotError, ctx: typer.Context) -> typer.Exit:
    """Say what is wrong, in JSON where that was asked for; return how to end."""
    if "json" in ctx.meta:
        typer.echo(json.dumps({"error": error.slug, "message": str(error)}), err=True)
    else:
        from buffettsbot.cli.shared.output import say  # rich, which --help does without

        say(str(error), label="error", style="bold red")
    return typer.Exit(error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buffettsbot {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Paid Telegram memberships, bought with TRC-20 USDT.

    Data goes to stdout, words to stderr. Exit codes: 0 done, 1 a bug or some items failed, 2 wrong
    usage, 4 the answer is no, 5 not now, try again.
    """


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without UTF-8 is no bug
    app(prog_name="buffettsbot")
