"""buffettsbot doctor: is everything right, and what to do where it is not."""

from dataclasses import asdict

import typer

from buffettsbot.cli.shared.options import Json, command_settings
from buffettsbot.cli.shared.output import show_json, show_marked
from buffettsbot.core.app import utcnow
from buffettsbot.core.health.doctor import examine
from buffettsbot.core.health.findings import FAILED, OK, UNKNOWN, WARNING, exit_code

commands = typer.Typer(**command_settings)

MARKS = {
    OK: ("✓", "green"),
    WARNING: ("!", "bold yellow"),
    FAILED: ("✗", "bold red"),
    UNKNOWN: ("?", "bold yellow"),
}


@commands.command()
def doctor(as_json: Json = False) -> None:
    """Check everything, and say what to do where something is wrong; changes nothing.

    Exits 0 when all is well or only warned of (!), 4 when something is wrong (✗), 5 when something
    could not be checked now (?).
    """
    findings = examine(utcnow)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        show_marked(
            (*MARKS[finding.status], finding.check, finding.found, finding.advice)
            for finding in findings
        )
    raise typer.Exit(exit_code(findings))
