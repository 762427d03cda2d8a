"""buffettsbot payments: the ledger of every hash ever claimed."""

from collections.abc import Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from buffettsbot.cli.shared.facts import field, handle, hash_column, moment, person, usdt, when
from buffettsbot.cli.shared.options import (
    TIMES,
    Csv,
    Hash,
    Json,
    Limit,
    Reason,
    Yes,
    actor,
    confirm,
    group_settings,
    open_for,
)
from buffettsbot.cli.shared.output import say, show_lines, show_object, show_rows
from buffettsbot.cli.verify import in_words
from buffettsbot.core.ledger import payments
from buffettsbot.core.ledger.decisions import decide_by_hand
from buffettsbot.core.money import to_usdt
from buffettsbot.core.storage.models import PAYMENT_STATUSES

commands = typer.Typer(help="The ledger of every hash ever claimed.", **group_settings)


def _status(value: str | None) -> str | None:
    if value is not None and value not in PAYMENT_STATUSES:
        raise typer.BadParameter(f"choose one of {', '.join(PAYMENT_STATUSES)}")
    return value


@commands.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[
        str | None,
        typer.Option(callback=_status, help=f"Only these: {', '.join(PAYMENT_STATUSES)}."),
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the ledger, the newest first."""
    app = open_for(ctx, *TIMES)
    columns = (
        moment("claimed", "claimed_at", app.settings.timezone, yields=4),
        person(id_field="customer_id"),
        field("plan", "plan", yields=3),
        field("amount", "amount", right=True, yields=5),
        field("status", "status", coloured=True),
        field("reason", "reason", yields=2),
        hash_column(yields=1),
    )
    show_rows(
        map(as_row, payments.list_payments(app.db, status=status, limit=limit)),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=payments.FIELDS,
        empty="No payment matches. Claims come from the bot, or from: "
        "buffettsbot subscribers claim USER PERIOD HASH",
    )


@commands.command()
def show(
    ctx: typer.Context,
    transaction_hash: Hash,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="With what the chain sources answered.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a payment, and whoever else claimed its hash."""
    app = open_for(ctx, *TIMES)
    first, *others = payments.show_payment(app.db, transaction_hash)
    row = as_row(first) | ({"evidence": first["evidence"]} if evidence else {})
    if as_json:
        show_object(row | {"other_claims": [as_row(other) for other in others]})
        return
    zone = app.settings.timezone
    show_lines(
        [
            ("hash", row["transaction_hash"]),
            ("status", in_words(row["status"], row["reason"])),
            ("customer", handle(row["telegram_username"], row["customer_id"])),
            ("plan", f"{row['plan']}, {row['price']} USDT"),
            ("amount", f"{row['amount']} USDT" if row["amount"] else "–"),
            ("sender", row["sender"] or "–"),
            ("paid", when(row["paid_at"], zone)),
            ("claimed", when(row["claimed_at"], zone)),
            ("decided", when(row["decided_at"], zone)),
            ("next check", when(row["next_check_at"], zone)),
            ("bought", _period(row, zone)),
            *(("other claim", _claimant(other)) for other in others),
        ]
    )
    if evidence:
        show_object({"evidence": first["evidence"]})


@commands.command()
def approve(
    ctx: typer.Context, transaction_hash: Hash, yes: Yes = False, as_json: Json = False
) -> None:
    """Accept what is pending or held. The membership starts, as if the chain had said so."""
    _decide(ctx, transaction_hash, "", accept=True, yes=yes, as_json=as_json)


@commands.command()
def reject(
    ctx: typer.Context,
    transaction_hash: Hash,
    reason: Reason,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Refuse what is pending or held. The customer hears that it was refused."""
    _decide(ctx, transaction_hash, reason, accept=False, yes=yes, as_json=as_json)


def _decide(
    ctx: typer.Context,
    transaction_hash: str,
    why: str,
    *,
    accept: bool,
    yes: bool,
    as_json: bool,
) -> None:
    app = open_for(ctx, "timezone")
    claim = payments.open_payment(app.db, transaction_hash)
    if not yes:
        confirm(f"{'Accept' if accept else 'Refuse'} {_in_short(claim)}?", as_json=as_json)
    decide_by_hand(
        app.db,
        transaction_hash=transaction_hash,
        accept=accept,
        actor=actor(),
        now=app.now(),
        why=why,
        seen=claim["id"],
    )
    decided = as_row(payments.show_payment(app.db, transaction_hash)[0])
    if as_json:
        show_object(decided)
    else:
        say(f"The payment is {decided['status']}.")


def _period(row: Mapping[str, Any], zone: ZoneInfo) -> str:
    if row["period_end"] is None:
        return "–"
    return f"{when(row['period_start'], zone)} to {when(row['period_end'], zone)}"


def _in_short(entry: Mapping[str, Any]) -> str:
    who = handle(entry["telegram_username"], entry["customer_id"])
    came = "" if entry["amount"] is None else f", {usdt(entry['amount'])} USDT came"
    status = in_words(entry["status"], entry["reason"])
    return f"the payment of {who} for {entry['plan']} at {entry['price']} USDT: {status}{came}"


def as_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ledger entry as the command line shows it: without evidence, amounts in USDT."""
    amount = None if entry["amount"] is None else to_usdt(entry["amount"])
    return {name: entry[name] for name in payments.FIELDS} | {"amount": amount}


def _claimant(entry: Mapping[str, Any]) -> str:
    who = handle(entry["telegram_username"], entry["customer_id"])
    return f"{who}, {entry['plan']}: {in_words(entry['status'], entry['reason'])}"
