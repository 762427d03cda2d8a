"""buffettsbot pass: what the timers run.

Adding a pass is adding a command here: open it, then either show what is due or run it.
"""

import sys
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Annotated

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
)
from buffettsbot.cli.shared.output import progress, show_rows
from buffettsbot.cli.shared.passes import At, DryRun, finish, open_pass, run_pass, show_due
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
from buffettsbot.core.storage.passes import run_recorded
from buffettsbot.core.telegram.delivery import deliver as send_messages
from buffettsbot.core.telegram.group_audit import audit_group as compare_group
from buffettsbot.core.telegram.rows import count_due, list_due

commands = typer.Typer(help="What the timers run.", **group_settings)

MOST_WORDS = 4096  # characters of what a failed unit said: a message has no room for more


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
    app, now = open_pass(ctx, *PAYMENTS, dry_run=dry_run, at=at)
    chain, expectation = open_chain(app.settings), expectation_of(app.settings)
    work = partial(settle_payments, app.db, chain, expectation, now=now, limit=limit)
    if dry_run:
        columns = (
            hash_column(),
            field("customer", "customer_id", right=True),
            moment("claimed", "claimed_at", app.settings.timezone),
            field("reason", "reason"),
        )
        show_due("settle", work(dry_run=True).items, columns, as_json=as_json)
    else:
        run_pass(app, "settle", work, doing="settling", as_json=as_json)


@commands.command()
def remind(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Queue the reminders that are due: each once, the right one."""
    app, now = open_pass(ctx, "reminder_days", dry_run=dry_run, at=at)
    days = app.settings.reminder_days
    if dry_run:
        due = islice(due_reminders(app.db, now=now, days=days), limit)
        rows = ({"days": threshold} | asdict(member) for member, threshold in due)
        columns = (field("days", "days", right=True), *_member_columns(app))
        show_due("remind", rows, columns, as_json=as_json)
    else:
        work = partial(send_reminders, app.db, now=now, days=days, limit=limit)
        run_pass(app, "remind", work, doing="reminding", as_json=as_json)


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
    app, now = open_pass(ctx, "expire_guard", "group_id", dry_run=dry_run, at=at)
    if dry_run:
        rows = map(asdict, due_expiries(app.db, now=now, limit=limit))
        show_due("expire", rows, _member_columns(app), as_json=as_json)
    else:
        work = partial(
            end_memberships,
            app.db,
            now=now,
            guard=app.settings.expire_guard,
            group=app.settings.group_id is not None,
            force=force,
            limit=limit,
        )
        run_pass(app, "expire", work, doing="ending", as_json=as_json)


@commands.command()
def deliver(
    ctx: typer.Context,
    dry_run: DryRun = False,
    at: At = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Send what waits in the outbox, at Telegram's speed."""
    app, now = open_pass(ctx, dry_run=dry_run, at=at)
    if dry_run:
        columns = (
            field("id", "id", right=True),
            field("kind", "kind"),
            field("chat", "chat_id", right=True),
            moment("queued", "created_at", app.settings.timezone),
        )
        show_due("deliver", list_due(app.db, now, limit), columns, as_json=as_json)
    else:
        telegram, style = open_telegram(app.settings), style_of(app.settings)
        work = partial(send_messages, app.db, telegram, style, clock=app.now, limit=limit)
        due = count_due(app.db, now)
        run_pass(app, "deliver", work, doing="sending", expected=due, as_json=as_json)


@commands.command("audit-group")
def audit_group(
    ctx: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix it: queue removals and invitations, set flags.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --fix: remove though it is an abnormal share.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", callback=at_most, metavar="N", help="With --fix: fix at most N."),
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
        raise typer.BadParameter("it is about what --fix does", param_hint=option)
    app = open_for(ctx, *TIMES, "expire_guard")
    compare = partial(
        compare_group,
        app.db,
        open_group(app.settings),
        clock=app.now,
        guard=app.settings.expire_guard,
        fix=fix,
        force=force,
        limit=limit,
    )
    with progress("asking") as watch:
        report = run_recorded(app.db, app.now, "audit-group", lambda: compare(watch=watch))
    if not as_json:
        empty = "The group and the database agree."
        show_rows(report.items, _audit_columns(app), fields=(), empty=empty)
    finish(report, as_json=as_json, with_items=True)


@commands.command()
def failed(
    ctx: typer.Context,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="What has failed.")],
    as_json: Json = False,
) -> None:
    """Tell the staff that a unit of systemd has failed. Stdin says why; once an hour for each."""
    app = open_for(ctx, *TIMES)
    why = "" if sys.stdin.isatty() else sys.stdin.read(MOST_WORDS)
    raise_alarm(app.db, unit=unit, error=why, now=app.now())
    telegram, style = open_telegram(app.settings), style_of(app.settings)
    report = send_messages(app.db, telegram, style, clock=app.now)
    finish(report, as_json=as_json)


def _member_columns(app: App) -> tuple[Column, ...]:
    return person(), field("plan", "plan"), moment("ends", "end_date", app.settings.timezone)


def _audit_columns(app: App) -> tuple[Column, ...]:
    zone = app.settings.timezone
    return (
        person(),
        Column("ends", lambda row: when(row["end_date"], zone, "%d %b %Y"), yields=3),
        field("group", "status", yields=2),
        field("noted", "at_private_group", yields=1),
        field("wrong", "problem"),
        Column("cure", lambda row: row["error"] or row["action"], cut=True),
        field("fixed", "mended", yields=4),
    )
