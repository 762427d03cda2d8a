"""buffettsbot subscribers: who is in."""

from dataclasses import asdict, fields
from itertools import islice
from typing import Annotated, Any

import typer

from buffettsbot.cli.payments import as_row as payment_row
from buffettsbot.cli.shared.facts import handle, picked, when
from buffettsbot.cli.shared.membership import membership_columns, membership_facts
from buffettsbot.cli.shared.options import (
    PAYMENTS,
    TIMES,
    Csv,
    Hash,
    Json,
    Limit,
    Period,
    Person,
    Reason,
    Yes,
    by,
    confirm,
    group_settings,
    open_for,
    parse_time,
)
from buffettsbot.cli.shared.output import say, show_lines, show_object, show_rows
from buffettsbot.cli.verify import EXIT_CODES, as_row, in_words, say_verdict
from buffettsbot.core.app import App, expectation_of, open_chain
from buffettsbot.core.errors import NoMembership
from buffettsbot.core.ledger import claims, payments
from buffettsbot.core.members import grants, memberships, users
from buffettsbot.core.members.memberships import STATUSES, Member
from buffettsbot.core.offers.plans import parse_period
from buffettsbot.core.outbox import by_hand
from buffettsbot.core.settings.values import parse_duration
from buffettsbot.core.storage import models
from buffettsbot.core.storage.models import TelegramUser

commands = typer.Typer(help="Who is in.", **group_settings)

FIELDS = tuple(column.name for column in fields(Member))
USER_FIELDS = tuple(TelegramUser.model_fields)
MESSAGE_FIELDS = ("kind", "status", "created_at", "sent_at", "error")


def _status(value: str) -> str:
    if value not in STATUSES:
        raise typer.BadParameter(f"choose one of {', '.join(STATUSES)}")
    return value


def _within(value: str | None) -> str | None:
    try:
        if value and value.strip().isdecimal():  # bare seconds are nobody's meaning here
            raise typer.BadParameter(f"write the unit, too, such as {value.strip()}d")
        _ = value and parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


@commands.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[
        str, typer.Option(callback=_status, help=f"One of {', '.join(STATUSES)}.")
    ] = "active",
    within: Annotated[
        str | None, typer.Option(callback=_within, help="Only those that end so soon, as 7d.")
    ] = None,
    plan: Annotated[str | None, typer.Option(metavar="PERIOD", help="Only this plan.")] = None,
    limit: Limit = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List memberships, the next to end first."""
    if within and status == "expired":
        raise typer.BadParameter(
            "it is about what still runs, so not with --status expired", param_hint="'--within'"
        )
    app = open_for(ctx, *TIMES)
    members = memberships.list_members(
        app.db,
        now=app.now(),
        status=status,
        within=parse_duration(within) if within else None,
        plan=parse_period(plan) if plan else None,
        limit=limit,
    )
    show_rows(
        map(asdict, members),
        membership_columns(app.settings.timezone),
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="Nobody matches. Everyone who ever was in: buffettsbot subscribers list --status all",
    )


@commands.command()
def show(ctx: typer.Context, who: Person, as_json: Json = False) -> None:
    """Show a person's membership, payments, and what they were sent."""
    app = open_for(ctx, *TIMES)
    user = users.show_user(app.db, who)
    member = memberships.find_member(app.db, user.chat_id, now=app.now())
    ledger = [
        payment_row(entry)
        for entry in islice(payments.list_payments(app.db, customer_id=user.chat_id), 50)
    ]
    messages = [
        picked(message, MESSAGE_FIELDS) for message in by_hand.for_chat(app.db, user.chat_id)
    ]
    if as_json:
        membership = asdict(member) if member else None
        data: dict[str, Any] = {"user": picked(user, USER_FIELDS), "membership": membership}
        show_object(data | {"payments": ledger, "messages": messages})
        return
    zone = app.settings.timezone
    facts = [("user", f"{handle(user.telegram_username, user.chat_id)} ({user.chat_id})")]
    facts += membership_facts(member, zone)
    for row in ledger:
        status = in_words(row["status"], row["reason"])
        facts.append(("payment", f"{when(row['claimed_at'], zone)}, {row['plan']}, {status}"))
        facts.append(("", row["transaction_hash"]))
    facts += [
        ("message", f"{when(row['created_at'], zone)}, {row['kind']}, {row['status']}")
        for row in messages
    ]
    show_lines(facts)


@commands.command()
def claim(
    ctx: typer.Context,
    who: Person,
    period: Period,
    transaction_hash: Hash,
    as_json: Json = False,
) -> None:
    """Sell a membership for a hash. Exits 0 when it is sold, 4 when refused, 5 when not yet."""
    app = open_for(ctx, *TIMES, *PAYMENTS)
    outcome = claims.claim(
        app.db,
        open_chain(app.settings),
        expectation_of(app.settings),
        person=who,
        period=period,
        transaction_hash=transaction_hash,
        now=app.now(),
        by=by(app),
    )
    if as_json:
        bought = {
            "customer": outcome.customer_id,
            "plan": outcome.plan_id,
            "start_date": outcome.start_date,
            "end_date": outcome.end_date,
            "retry_after": outcome.retry_after,
        }
        show_object(as_row(outcome.verdict, outcome.transaction_hash) | bought)
    else:
        say_verdict(outcome.verdict)
        if outcome.end_date is not None:
            say(f"The membership runs until {when(outcome.end_date, app.settings.timezone)}.")
    raise typer.Exit(EXIT_CODES[outcome.verdict.verdict])


@commands.command()
def grant(
    ctx: typer.Context,
    who: Person,
    reason: Reason,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=grants.MOST_DAYS, metavar="N", help="So many days more."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it is to end, as 2026-12-31T00:00.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a membership without a payment: days more, or until a time."""
    if (days is None) == (until is None):
        raise typer.BadParameter("choose one of them", param_hint="'--days' / '--until'")
    app = open_for(ctx, *TIMES)
    end = None if until is None else parse_time(until, app.settings, "--until")
    granted = grants.grant(app.db, person=who, days=days, until=end, reason=reason, by=by(app))
    words = f"now runs until {when(granted.end_date, app.settings.timezone)}"
    _show(app, granted.customer_id, words, as_json=as_json)


@commands.command()
def revoke(
    ctx: typer.Context, who: Person, reason: Reason, yes: Yes = False, as_json: Json = False
) -> None:
    """End a running membership now, as if its time were up."""
    app = open_for(ctx, *TIMES, "group_id")
    member = memberships.running_member(app.db, who, now=app.now())
    zone, warning = app.settings.timezone, _warning_of_open_payment(app, member.chat_id)
    if not yes:
        name = handle(member.telegram_username, member.chat_id)
        runs = f"which runs until {when(member.end_date, zone)}"
        confirm(f"{warning}End the membership of {name}, {runs}, now?", as_json=as_json)
    group = app.settings.group_id is not None
    grants.revoke(app.db, member=member, reason=reason, by=by(app), group=group)
    if yes and warning:
        say(warning)
    words = f"is ended; it would have run until {when(member.end_date, zone)}"
    _show(app, member.chat_id, words, as_json=as_json)


def _warning_of_open_payment(app: App, chat_id: int) -> str:
    """Return a sentence about a payment that is not decided; "" without one."""
    ledger = payments.list_payments(app.db, customer_id=chat_id)
    if not any(entry["status"] in models.OPEN for entry in ledger):
        return ""
    return "A payment of theirs is not decided yet; if it is accepted, they are in again. "


def _show(app: App, chat_id: int, words: str, *, as_json: bool) -> None:
    member = memberships.find_member(app.db, chat_id, now=app.now())
    if member is None:
        raise NoMembership(f"{chat_id} has no membership.")
    if as_json:
        show_object(asdict(member))
    else:
        say(f"The membership of {handle(member.telegram_username, chat_id)} {words}.")
