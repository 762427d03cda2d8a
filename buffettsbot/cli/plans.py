"""buffettsbot plans: what is on sale."""

from typing import Annotated

import typer

from buffettsbot.cli.shared.facts import field, picked
from buffettsbot.cli.shared.options import (
    Csv,
    Json,
    Period,
    Yes,
    by,
    confirm,
    group_settings,
    open_for,
)
from buffettsbot.cli.shared.output import say, show_object, show_rows
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.models import Plan

commands = typer.Typer(help="What is on sale.", **group_settings)


def _price(text: str) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= 9
    if not digits or not 1 <= int(text) <= plans.HIGHEST_PRICE:
        raise typer.BadParameter(f"write whole USDT, from 1 to {plans.HIGHEST_PRICE:,}")
    return int(text)


Price = Annotated[int, typer.Argument(parser=_price, metavar="PRICE", help="Whole USDT.")]

FIELDS = ("id", "period", "price", "is_active")
COLUMNS = (
    field("period", "period"),
    field("price, USDT", "price", right=True),
    field("on sale", "is_active"),
)


@commands.command("list")
def list_(ctx: typer.Context, as_json: Json = False, as_csv: Csv = False) -> None:
    """List the plans, retired ones included."""
    rows = (picked(plan, FIELDS) for plan in plans.list_plans(open_for(ctx).db))
    show_rows(
        rows,
        COLUMNS,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty='Nothing is on sale yet. For example: buffettsbot plans create "1 month" 50',
    )


@commands.command()
def create(ctx: typer.Context, period: Period, price: Price, as_json: Json = False) -> None:
    """Put a period on sale."""
    app = open_for(ctx)
    plan = plans.create_plan(app.db, period=period, price=price, by=by(app))
    _show(plan, f"{plan.period} is on sale for {plan.price} USDT.", as_json=as_json)


@commands.command("set-price")
def set_price(ctx: typer.Context, period: Period, price: Price, as_json: Json = False) -> None:
    """Change a price; claims made before keep the price they saw."""
    app = open_for(ctx)
    plan = plans.set_price(app.db, period=period, price=price, by=by(app))
    _show(plan, f"{plan.period} costs {plan.price} USDT from now on.", as_json=as_json)


@commands.command()
def retire(ctx: typer.Context, period: Period, yes: Yes = False, as_json: Json = False) -> None:
    """Take a period off sale; memberships that run are not touched."""
    app = open_for(ctx)
    if not yes:
        standing = plans.find_plan(app.db, period)
        confirm(f"Take {standing.period} for {standing.price} USDT off sale?", as_json=as_json)
    plan = plans.retire_plan(app.db, period=period, by=by(app))
    _show(plan, f"{plan.period} is off sale.", as_json=as_json)


def _show(plan: Plan, words: str, *, as_json: bool) -> None:
    if as_json:
        show_object(picked(plan, FIELDS))
    else:
        say(words)
