"""What is on sale: periods, prices, and plans that are retired and come back."""

import pytest
from helpers import in_parallel, member, rows, shop

from buffettsbot.core.errors import Conflict, Invalid, UnknownPlan
from buffettsbot.core.offers.plans import (
    HIGHEST_PRICE,
    create_plan,
    list_plans,
    parse_period,
    retire_plan,
    set_price,
)
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PERIODS, Payment, Plan


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("1 month", "1 month"),
        ("1 Month", "1 month"),
        (" 1month ", "1 month"),
        ("1-months", "1 month"),
        ("3 months", "3 months"),
        ("3_month", "3 months"),
        ("06 months", "6 months"),
        ("1 year", "1 year"),
        ("1 YEARS", "1 year"),
        ("12 months", "1 year"),
    ],
)
def test_a_period_is_understood_as_people_write_it(text: str, period: str) -> None:
    assert parse_period(text) == period


@pytest.mark.parametrize(
    "text",
    [
        "",
        "month",
        "2 months",
        "0 months",
        "12 years",
        "1 monthly",
        "one month",
        "１ month",
        "1 month; DROP TABLE plan",
        "1 month\0",
        "1 " * 1_000_000,
        "1" * 1000 + " month",
    ],
)
def test_any_other_period_is_unknown_and_the_sentence_names_the_right_ones(text: str) -> None:
    with pytest.raises(UnknownPlan, match="1 month, 3 months, 6 months, 1 year") as caught:
        parse_period(text)
    assert len(str(caught.value)) < 200


def test_a_plan_is_put_on_sale(db: Database) -> None:
    plan = create_plan(db, period="3 months", price=120)
    assert (plan.period, plan.price, plan.is_active) == ("3 months", 120, True)
    assert list_plans(db) == [plan]


def test_plans_are_listed_the_shortest_first_and_the_retired_only_on_demand(db: Database) -> None:
    shop(db, year=400, month=50, half=220, quarter=120)
    assert [plan.period for plan in list_plans(db)] == list(PERIODS)
    retire_plan(db, period="3 months")
    assert [p.period for p in list_plans(db, on_sale_only=True)] == [
        "1 month",
        "6 months",
        "1 year",
    ]
    assert len(list_plans(db)) == 4


def test_the_same_period_twice_is_a_conflict_that_says_how_to_change_the_price(
    db: Database,
) -> None:
    create_plan(db, period="1 month", price=50)
    with pytest.raises(Conflict, match='set-price "1 month" 60'):
        create_plan(db, period="1month", price=60)
    assert [plan.price for plan in list_plans(db)] == [50]


def test_a_retired_plan_comes_back_as_itself_at_the_new_price(db: Database) -> None:
    first = create_plan(db, period="1 month", price=50)
    assert not retire_plan(db, period="1 month").is_active
    again = create_plan(db, period="1 month", price=60)
    assert (again.id, again.price, again.is_active) == (first.id, 60, True)


def test_a_plan_that_was_bought_keeps_its_history_when_it_is_retired(db: Database) -> None:
    member(db)
    retire_plan(db, period="1 month")
    assert [payment.plan_id for payment in rows(db, Payment)] == [rows(db, Plan)[0].id]


def test_a_price_is_changed(db: Database) -> None:
    create_plan(db, period="1 month", price=50)
    assert set_price(db, period="1 MONTH", price=70).price == 70
    assert [plan.price for plan in list_plans(db)] == [70]


@pytest.mark.parametrize("retired", [False, True])
def test_what_is_not_on_sale_can_neither_be_priced_nor_retired(db: Database, retired: bool) -> None:
    if retired:
        create_plan(db, period="1 year", price=400)
        retire_plan(db, period="1 year")
    with pytest.raises(UnknownPlan, match='plans create "1 year" PRICE'):
        set_price(db, period="1 year", price=1)
    with pytest.raises(UnknownPlan, match='plans create "1 year" PRICE'):
        retire_plan(db, period="1 year")


@pytest.mark.parametrize("price", [0, -1, HIGHEST_PRICE + 1, 2**31, 2**63])
def test_a_price_out_of_reason_is_refused_before_the_database_is(db: Database, price: int) -> None:
    create_plan(db, period="1 month", price=50)
    with pytest.raises(Invalid, match="from 1 to 1,000,000"):
        create_plan(db, period="1 year", price=price)
    with pytest.raises(Invalid, match="from 1 to 1,000,000"):
        set_price(db, period="1 month", price=price)
    assert [plan.price for plan in list_plans(db)] == [50]


def test_the_highest_price_is_allowed(db: Database) -> None:
    assert create_plan(db, period="1 year", price=HIGHEST_PRICE).price == HIGHEST_PRICE


def test_of_many_who_put_it_on_sale_at_once_one_does(db: Database) -> None:
    results = in_parallel(8, lambda n: create_plan(db, period="1 month", price=50 + n))
    assert sum(isinstance(result, Plan) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7
    assert len(list_plans(db)) == 1
