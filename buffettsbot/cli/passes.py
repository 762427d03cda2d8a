"""buffettsbot pass: what the timers run."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, NoReturn

import typer

from buffettsbot.cli.shared.facts import field, hash_column, moment, person, when
from buffettsbot.cli.shared.options import (
    PAYMENTS,
    TIMES,
    Json,
    Limit,
    at_most,
    group_settings,
    open_for,
    parse_time,
)
from buffettsbot.cli.shared.output import progress, say, show_object, show_rows
from buffettsbot.cli.shared.table import Column
from buffettsbot.core.app import (
    App,
    expectation_of,
    open_chain,
    open_group,
    open_telegram,
    style_of,
)
from buffettsbot.core.ledger.settle import settle as settle_payments
from buffettsbot.core.members.expiry import due_expiries
from buffettsbot.core.members.expiry import expire as end_memberships
from buffettsbot.core.members.reminders import due_reminders
from buffettsbot.core.members.reminders import remind as send_reminders
from buffettsbot.core.outbox.staff import raise_alarm
from buffettsbot.core.storage.passes import Report, run_recorded
from buffettsbot.core.telegram.delivery import count_due, list_due
from buffettsbot.core.telegram.delivery import deliver as send_messages
from buffettsbot.core.telegram.group_audit import audit_group as compare_group

commands = typer.Typer(help="What the timers run.", **group_settings)

WORDS = 4096

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what is due and change nothing.")]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="With --dry-run: what would be due then.")
]


@commands.callback()
def group() -> None:
    """What the timers run. Every pass is safe to repeat, to race and to kill."""


@commands.command()
def settle(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Ask the chain again about pending payments that are due."""
    app, now = _begun(ctx, at, dry_run, *PAYMENTS)
    chain, expectation = open_chain(app.settings), expectation_of(app.settings)

    def work() -> Report:
        with progress("settling") as watch:
            return settle_payments(
                app.db,
                chain,
                expectation,
                now=now,
                limit=limit,
                dry_run=dry_run,
                watch=lambda report: watch(len(report.items), report.due),
            )

    if dry_run:
        columns = (
            hash_column(),
            field("customer", "customer_id", right=True),
            moment("claimed", "claimed_at", app.settings.timezone),
            field("reason", "reason"),
        )
        _rehearse("settle", work().items, columns, as_json=as_json)
    finish(run_recorded(app.db, app.now, "settle", work), as_json=as_json)


@commands.command()
def remind(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Queue the reminders that are due: each once, the right one."""
    app, now = _begun(ctx, at, dry_run, "reminder_days")
    days = app.settings.reminder_days

    def work() -> Report:
        with progress("reminding") as watch:
            return send_reminders(
                app.db,
                now=now,
                days=days,
                limit=limit,
                watch=lambda report: watch(report.done, report.due),
            )

    if dry_run:
        due = islice(due_reminders(app.db, now=now, days=days), limit)
        rows = ({"days": threshold} | asdict(member) for member, threshold in due)
        columns = (field("days", "days", right=True), *_member_columns(app))
        _rehearse("remind", rows, columns, as_json=as_json)
    finish(run_recorded(app.db, app.now, "remind", work), as_json=as_json)


@commands.command()
def expire(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    force: Annotated[
        bool, typer.Option("--force", help="End them though they are an abnormal share.")
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """End the memberships whose time is up."""
    app, now = _begun(ctx, at, dry_run, "expire_guard", "group_id")

    def work() -> Report:
        with progress("ending") as watch:
            return end_memberships(
                app.db,
                now=now,
                guard=app.settings.expire_guard,
                group=app.settings.group_id is not None,
                force=force,
                limit=limit,
                watch=lambda report: watch(report.done, report.due),
            )

    if dry_run:
        rows = map(asdict, due_expiries(app.db, now=now, limit=limit))
        _rehearse("expire", rows, _member_columns(app), as_json=as_json)
    finish(run_recorded(app.db, app.now, "expire", work), as_json=as_json)


@commands.command()
def deliver(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Send what waits in the outbox, at Telegram's speed."""
    app, now = _begun(ctx, at, dry_run)
    if dry_run:
        columns = (
            field("id", "id", right=True),
            field("kind", "kind"),
            field("chat", "chat_id", right=True),
            moment("queued", "created_at", app.settings.timezone),
        )
        _rehearse("deliver", list_due(app.db, now, limit), columns, as_json=as_json)
    telegram, style = open_telegram(app.settings), style_of(app.settings)

    def work() -> Report:
        total = count_due(app.db, now)
        with progress("sending") as watch:
            return send_messages(
                app.db,
                telegram,
                style,
                clock=app.now,
                limit=limit,
                watch=lambda report: watch(report.due, max(total, report.due)),
            )

    finish(run_recorded(app.db, app.now, "deliver", work), as_json=as_json)


@commands.command("audit-group")
def audit_group(
    ctx: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend it: queue removals and invitations, set flags.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --fix: remove though it is an abnormal share.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", callback=at_most, metavar="N", help="With --fix: mend at most N."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the group with the database. Changes nothing without --fix.

    Telegram gives bots no list of members: it is asked about each person the database knows, some
    30 a second; strangers in the group stay unseen. Never removed are owners, administrators,
    staff, bots, and whoever has a payment that is not decided. Who was invited once in a paid
    period is not invited again.
    """
    if (force or limit) and not fix:
        option = "'--force'" if force else "'--limit'"
        raise typer.BadParameter("it is about what --fix mends", param_hint=option)
    app = open_for(ctx, *TIMES, "expire_guard")
    telegram = open_group(app.settings)

    def work() -> Report:
        with progress("asking") as watch:
            return compare_group(
                app.db,
                telegram,
                clock=app.now,
                guard=app.settings.expire_guard,
                fix=fix,
                force=force,
                limit=limit,
                watch=watch,
            )

    report = run_recorded(app.db, app.now, "audit-group", work)
    if not as_json:
        zone = app.settings.timezone
        columns = (
            person(),
            Column("ends", lambda row: when(row["end_date"], zone, "%d %b %Y"), yields=3),
            field("group", "status", yields=2),
            field("noted", "at_private_group", yields=1),
            field("wrong", "problem"),
            Column("cure", lambda row: row["error"] or row["action"], cut=True),
            field("mended", "mended", yields=4),
        )
        empty = "The group and the database agree."
        show_rows(report.items, columns, fields=(), empty=empty)
    finish(report, as_json=as_json, with_items=True)


@commands.command()
def failed(
    ctx: typer.Context,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="What has failed.")],
    as_json: Json = False,
) -> None:
    """Tell the staff that a unit of systemd has failed. Stdin says why; once an hour for each."""
    app = open_for(ctx, *TIMES)
    raise_alarm(app.db, unit=unit, error=_said_on_stdin(), now=app.now())
    telegram, style = open_telegram(app.settings), style_of(app.settings)
    report = send_messages(app.db, telegram, style, clock=app.now)
    finish(report, as_json=as_json)


def _said_on_stdin() -> str:
    return "" if sys.stdin.isatty() else sys.stdin.read(WORDS)


def _begun(ctx: typer.Context, at: str | None, dry_run: bool, *needed: str) -> tuple[App, datetime]:
    if at is not None and not dry_run:
        raise typer.BadParameter(
            "it looks into the future, so it needs --dry-run", param_hint="'--at'"
        )
    app = open_for(ctx, *TIMES, *needed)
    return app, parse_time(at, app.settings) if at else app.now()


def _member_columns(app: App) -> tuple[Column, ...]:
    return person(), field("plan", "plan"), moment("ends", "end_date", app.settings.timezone)


def _rehearse(
    name: str, due: Iterable[dict[str, Any]], columns: Sequence[Column], *, as_json: bool
) -> NoReturn:
    """Show what is due, and end the command: nothing is changed."""
    report = Report(name, dry_run=True)

    def counted() -> Iterator[dict[str, Any]]:
        for row in due:
            report.due += 1
            report.skipped += 1
            yield row

    if as_json:
        report.items = list(counted())
    else:
        show_rows(counted(), columns, fields=(), empty="Nothing is due.")
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
