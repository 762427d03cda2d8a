"""What is on sale: a period at a price in whole USDT."""

import re
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from buffettsbot.core.errors import Conflict, Invalid, UnknownPlan
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PERIODS, PLAN, Plan
from buffettsbot.core.storage.statements import insert_once

HIGHEST_PRICE = 1_000_000

_LENGTHS = {(1, "month"): "1 month", (3, "month"): "3 months", (6, "month"): "6 months"} | {
    (12, "month"): "1 year",
    (1, "year"): "1 year",
}


def parse_period(text: str) -> str:
    """Given a period as people write it (`1 month`, `3months`, `12 months`), return the plan's own.

    Raises UnknownPlan for any other length.
    """
    match = re.fullmatch(r"\s*(\d{1,2})[\s_-]*(month|year)s?\s*", text.lower()[:40], re.ASCII)
    period = _LENGTHS.get((int(match[1]), match[2])) if match else None
    if period is None:
        raise UnknownPlan(f"There is no period {text[:40]!r}. Choose one of: {', '.join(PERIODS)}.")
    return period


def list_plans(db: Database, *, on_sale_only: bool = False) -> list[Plan]:
    """Return the plans, the shortest period first."""
    with db.read() as session:
        plans = session.exec(select(Plan)).all()
    known = [plan for plan in plans if plan.is_active or not on_sale_only]
    return sorted(known, key=lambda plan: PERIODS[plan.period])


def find_plan(db: Database, period: str) -> Plan:
    """Return a plan on sale. Raises UnknownPlan."""
    with db.read() as session:
        return _found(session.exec(_named(period)).first(), period)


def create_plan(db: Database, *, period: str, price: int, by: By | None = None) -> Plan:
    """Put a period on sale; a retired one comes back at the new price.

    Raises Conflict when it is on sale already, Invalid for a price that is not 1 to 1,000,000.
    """
    period, price = parse_period(period), _checked(price)
    with db.begin() as session:
        audit.record(session.connection(), by, "plans create", period, f"{price} USDT")
        row: dict[str, Any] = {"period": period, "price": price, "is_active": True}
        number = insert_once(session.connection(), PLAN, row)
        if number is not None:
            return Plan(id=number, **row)
        revived: Plan | None = session.scalars(
            update(Plan)
            .where(col(Plan.period) == period, ~col(Plan.is_active))
            .values(price=price, is_active=True)
            .returning(Plan)
        ).first()
        if revived is None:
            raise Conflict(
                f"The plan for {period} is on sale already. To change its price: "
                f'buffettsbot plans set-price "{period}" {price}'
            )
    return revived


def set_price(db: Database, *, period: str, price: int, by: By | None = None) -> Plan:
    """Change the price of what is on sale; claims made before keep the price they saw.

    Raises UnknownPlan when the period is not on sale, Invalid for a price out of 1 to 1,000,000.
    """
    price = _checked(price)
    with db.begin() as session:
        plan = _on_sale(session, period)
        if plan.price != price:
            change = f"from {plan.price} to {price} USDT"
            audit.record(session.connection(), by, "plans set-price", plan.period, change)
            plan.price = price
    return plan


def retire_plan(db: Database, *, period: str, by: By | None = None) -> Plan:
    """Take a period off sale; its history stays. Raises UnknownPlan when it is not on sale."""
    with db.begin() as session:
        plan = _on_sale(session, period)
        audit.record(session.connection(), by, "plans retire", plan.period, f"{plan.price} USDT")
        plan.is_active = False
    return plan


def _on_sale(session: Session, period: str) -> Plan:
    """Return a plan on sale, locked against others who change it. Raises UnknownPlan."""
    locked = _named(period).with_for_update(key_share=True)
    return _found(session.exec(locked).first(), period)


def _named(period: str) -> SelectOfScalar[Plan]:
    return select(Plan).where(col(Plan.period) == parse_period(period), col(Plan.is_active))


def _found(plan: Plan | None, period: str) -> Plan:
    if plan is None:
        period = parse_period(period)
        raise UnknownPlan(
            f"No plan for {period} is on sale. To put it on sale: "
            f'buffettsbot plans create "{period}" PRICE'
        )
    return plan


def _checked(price: int) -> int:
    if not 0 < price <= HIGHEST_PRICE:
        raise Invalid(f"A price is a whole number of USDT from 1 to {HIGHEST_PRICE:,}.")
    return price
