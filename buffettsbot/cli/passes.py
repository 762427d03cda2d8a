"""buffettsbot pass: what the timers run."""

from typing import Annotated

import typer

from buffettsbot.cli.options import (
    PAYMENTS,
    TIMES,
    Json,
    Limit,
    group_settings,
    opened,
    parse_time,
)
from buffettsbot.cli.output import field, hash_column, moment, progress, say, show_object, show_rows
from buffettsbot.core.passes import Report, recorded
from buffettsbot.core.settlement import settle as settle_payments
from buffettsbot.core.sources import open_chain

app = typer.Typer(help="What the timers run.", **group_settings)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what is due and change nothing.")]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="With --dry-run: what would be due then.")
]


@app.callback()
def group() -> None:
    """What the timers run. Every pass is safe to repeat, to race and to kill."""


@app.command()
def settle(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Ask the chain again about pending payments whose time has come."""
    if at is not None and not dry_run:
        raise typer.BadParameter(
            "it looks into the future, so it needs --dry-run", param_hint="'--at'"
        )
    app_ = opened(ctx, *TIMES, *PAYMENTS)
    chain, expectation = open_chain(app_.settings), app_.settings.expectation
    now = parse_time(at, app_.settings) if at else app_.now()

    def work() -> Report:
        with progress("settling") as watch:
            return settle_payments(
                app_.db,
                chain,
                expectation,
                now=now,
                limit=limit,
                dry_run=dry_run,
                watch=lambda report: watch(len(report.items), report.due),
            )

    report = work() if dry_run else recorded(app_.db, app_.now, "settle", work)
    if dry_run and not as_json:
        columns = (
            hash_column(),
            field("customer", "customer_id", right=True),
            moment("claimed", "claimed_at", app_.settings.timezone),
            field("reason", "reason"),
        )
        show_rows(report.items, columns, fields=(), empty="Nothing is due.")
    finish(report, as_json=as_json)


def finish(report: Report, *, as_json: bool) -> None:
    """Say what a pass did; fail, once, if any of it failed."""
    if as_json:
        show_object(report.summary())
    else:
        counts = f"{report.due} due, {report.done} done, {report.skipped} left"
        unchanged = " (dry run, nothing was changed)" if report.dry_run else ""
        say(f"{report.name}: {counts}, {report.failed} failed{unchanged}")
    raise typer.Exit(1 if report.failed else 0)
