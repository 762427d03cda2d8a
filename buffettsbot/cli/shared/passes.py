"""What every pass of the command line shares: it shows what is due, or runs and says what it did.

A pass is a command with two endings. `--dry-run` ends in `show_due`, everything else in `run_pass`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer

from buffettsbot.cli.shared.options import TIMES, open_for, parse_time
from buffettsbot.cli.shared.output import progress, say, show_object, show_rows
from buffettsbot.cli.shared.table import Column
from buffettsbot.core.app import App
from buffettsbot.core.storage.passes import Report, run_recorded

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what is due and change nothing.")]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="With --dry-run: what would be due then.")
]


def open_pass(
    ctx: typer.Context, *needs: str, dry_run: bool, at: str | None
) -> tuple[App, datetime]:
    """Open the app for a pass; return it with the time that the pass is about.

    That is now, or what `--at` says, which only `--dry-run` may take. `needs`: the settings it
    works with. Raises BadSettings.
    """
    if at is not None and not dry_run:
        raise typer.BadParameter(
            "it looks into the future, so it needs --dry-run", param_hint="'--at'"
        )
    app = open_for(ctx, *TIMES, *needs)
    return app, parse_time(at, app.settings) if at else app.now()


def show_due(
    name: str, due: Iterable[dict[str, Any]], columns: Sequence[Column], *, as_json: bool
) -> NoReturn:
    """Show what is due, row by row, and end the command. Nothing is changed or written down."""
    report = Report(name, dry_run=True)

    def count() -> Iterator[dict[str, Any]]:
        for row in due:
            report.due += 1
            report.skipped += 1
            yield row

    if as_json:
        report.items = list(count())
    else:
        show_rows(count(), columns, fields=(), empty="Nothing is due.")
    finish(report, as_json=as_json)


def run_pass(
    app: App,
    name: str,
    work: Callable[..., Report],
    *,
    doing: str,
    expected: int = 0,
    as_json: bool,
) -> NoReturn:
    """Run a pass, write it into the history, say what it did, and end the command.

    `work` takes `watch`, which moves the bar of a terminal; `doing` stands beside the bar.
    `expected`: how much is due, where the pass itself finds that out only on its way.
    """
    with progress(doing) as move:

        def watch(report: Report) -> None:
            move(report.handled, max(report.due, expected))

        report = run_recorded(app.db, app.now, name, lambda: work(watch=watch))
    finish(report, as_json=as_json)


def finish(report: Report, *, as_json: bool, with_items: bool = False) -> NoReturn:
    """Say what a pass did; fail, once, if any of it failed."""
    if as_json:
        items = {"items": report.items} if report.dry_run or with_items else {}
        show_object(report.summary() | items)
    else:
        counts = f"{report.due} due, {report.done} done, {report.skipped} left"
        unchanged = " (dry run, nothing was changed)" if report.dry_run else ""
        say(f"{report.name}: {counts}, {report.failed} failed{unchanged}")
    raise typer.Exit(1 if report.failed else 0)
