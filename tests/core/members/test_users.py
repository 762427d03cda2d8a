"""Who is known: the id is the identity, the name moves."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import DAY, NOW, in_parallel, person, rows, staff, user
from hypothesis import given
from hypothesis import strategies as st

from buffettsbot.core.errors import Invalid, UnknownUser
from buffettsbot.core.members import users
from buffettsbot.core.members.users import (
    LARGEST_ID,
    list_users,
    parse_chat_id,
    parse_display_name,
    parse_username,
    register,
    set_staff,
    show_user,
)
from buffettsbot.core.storage import statements
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import TelegramUser


def names(db: Database) -> dict[int, str | None]:
    return {row.chat_id: row.telegram_username for row in rows(db, TelegramUser)}


def test_somebody_new_is_entered_with_their_profile(db: Database) -> None:
    entered, new = register(
        db,
        chat_id=7,
        telegram_username="@Ann",
        first_name=" Анна ",
        last_name="О'Нил 🦈",
        now=NOW,
    )
    assert new
    assert user(db, 7) == entered
    assert (entered.telegram_username, entered.first_name, entered.last_name) == (
        "Ann",
        "Анна",
        "О'Нил 🦈",
    )
    assert (entered.date_joined, entered.is_staff, entered.at_private_group) == (NOW, False, False)


def test_the_same_person_again_is_updated_and_keeps_what_was_not_given(db: Database) -> None:
    register(db, chat_id=7, telegram_username="ann", first_name="A", last_name="B", now=NOW)
    set_staff(db, 7, is_staff=True)
    again, new = register(db, chat_id=7, telegram_username="anna", last_name="C", now=NOW + DAY)
    assert not new
    assert (again.telegram_username, again.first_name, again.last_name) == ("anna", "A", "C")
    assert (again.date_joined, again.is_staff) == (NOW, True)


def test_a_person_may_have_no_name_and_lose_the_one_they_had(db: Database) -> None:
    person(db, 7, None)
    person(db, 8, "bob")
    person(db, 8, None)
    assert names(db) == {7: None, 8: None}


@pytest.mark.parametrize("spelling", ["ann", "ANN", "@aNn"])
def test_a_name_that_somebody_else_held_moves_to_whom_telegram_says(
    db: Database, spelling: str
) -> None:
    person(db, 7, "Ann")
    person(db, 8, spelling)
    assert names(db) == {7: None, 8: spelling.removeprefix("@")}
    assert show_user(db, "ann").chat_id == 8


def test_a_person_may_change_the_case_of_their_own_name(db: Database) -> None:
    person(db, 7, "ann")
    person(db, 7, "Ann")
    assert names(db) == {7: "Ann"}


def test_two_people_may_swap_their_names(db: Database) -> None:
    person(db, 7, "ann")
    person(db, 8, "bob")
    person(db, 7, "bob")
    person(db, 8, "ann")
    assert names(db) == {7: "bob", 8: "ann"}


@pytest.mark.parametrize(
    "named", [7, "7", "ann", "@ann", "ANN", '"ann"', " 'Ann' ", '"@ann"', "\t@aNN\n"]
)
def test_a_person_is_found_by_id_and_by_every_spelling_of_the_name(
    db: Database, named: str | int
) -> None:
    person(db, 7, "Ann")
    assert show_user(db, named).chat_id == 7


@pytest.mark.parametrize(
    "named",
    [
        "",
        "@",
        "an",
        "ann%",
        "a_n",
        8,
        0,
        -7,
        "-7",
        "7.0",
        "٧",
        "７",
        2**63,
        2**70,
        "9" * 10_000,
        "ann' OR '1'='1",
        "ann\0",
        "\ud800",
        "x" * 1_000_000,
    ],
)
def test_nobody_is_found_by_anything_else(db: Database, named: str | int) -> None:
    person(db, 7, "ann")
    with pytest.raises(UnknownUser, match="is known") as caught:
        show_user(db, named)
    assert len(str(caught.value)) < 300


def test_an_underscore_in_a_name_stands_for_itself(db: Database) -> None:
    person(db, 7, "annx")
    person(db, 8, "ann_")
    assert show_user(db, "ann_").chat_id == 8


@pytest.mark.parametrize("name", ["a", "Ann_2024", "x" * 32, "@ann", '"ann"'])
def test_a_telegram_username_is_accepted(name: str) -> None:
    assert parse_username(name) == name.strip('"').removeprefix("@")


@pytest.mark.parametrize(
    "name", ["", "@", "@@ann", "7ann", "_ann", "an n", "анна", "x" * 33, "ann\n\n1", "a-b", "a\0"]
)
def test_what_is_no_telegram_username_is_refused(db: Database, name: str) -> None:
    with pytest.raises(Invalid, match="Telegram username"):
        parse_username(name)
    if name:
        with pytest.raises(Invalid):
            register(db, chat_id=7, telegram_username=name, now=NOW)
    assert rows(db, TelegramUser) == []


@pytest.mark.parametrize("value", [1, "1", LARGEST_ID, " 7_000_000_001".replace("_", "")])
def test_a_chat_id_is_accepted(value: Any) -> None:
    assert parse_chat_id(value) == int(value)


@pytest.mark.parametrize(
    "value", [0, -1, LARGEST_ID + 1, "", "x", "1.5", 1.5, True, "１", "1e3", "+1", "9" * 5000]
)
def test_what_is_no_chat_id_is_refused(db: Database, value: Any) -> None:
    with pytest.raises(Invalid, match="chat id"):
        parse_chat_id(value)
    with pytest.raises(Invalid):
        register(db, chat_id=value, telegram_username="ann", now=NOW)


@pytest.mark.parametrize("name", ["x" * 65, "\ud800", "a\udfffb"])
def test_a_name_that_no_database_holds_is_refused(db: Database, name: str) -> None:
    for field in ("first_name", "last_name"):
        with pytest.raises(Invalid, match="at most 64"):
            person(db, 7, "ann", **{field: name})
    assert rows(db, TelegramUser) == []


def test_a_nul_in_a_name_is_left_out(db: Database) -> None:
    person(db, 7, "ann", first_name="A\0B", last_name="\0")
    assert (user(db, 7).first_name, user(db, 7).last_name) == ("AB", "")


@given(st.text())
def test_no_text_at_all_makes_the_parsers_crash(text: str) -> None:
    parsers: list[Callable[[str], Any]] = [parse_username, parse_chat_id, parse_display_name]
    for parse in parsers:
        try:
            parse(text)
        except Invalid as error:
            assert len(str(error)) < 200


def test_staff_are_promoted_and_demoted_and_repeating_is_harmless(db: Database) -> None:
    person(db, 7, "ann")
    for wanted in (True, True, False, False):
        assert set_staff(db, "@ANN", is_staff=wanted).is_staff is wanted
        assert user(db, 7).is_staff is wanted
    with pytest.raises(UnknownUser):
        set_staff(db, "nobody", is_staff=True)


def test_everyone_is_listed_by_id_page_by_page(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 2)
    for chat_id in (9, 3, 7, 5, 1):
        person(db, chat_id, None)
    staff(db, 4, 8)
    assert [u.chat_id for u in list_users(db)] == [1, 3, 4, 5, 7, 8, 9]
    assert [u.chat_id for u in list_users(db, staff_only=True)] == [4, 8]
    assert [u.chat_id for u in list_users(db, limit=3)] == [1, 3, 4]


def test_a_person_who_comes_while_the_list_is_read_disturbs_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 2)
    for chat_id in (2, 4, 6, 8):
        person(db, chat_id, None)
    seen = []
    for found in list_users(db):
        seen.append(found.chat_id)
        if found.chat_id == 4:
            person(db, 3, None)
            person(db, 7, None)
    assert seen == [2, 4, 6, 7, 8]


def test_of_many_new_people_who_bring_one_name_at_once_all_are_entered_and_one_keeps_it(
    db: Database,
) -> None:
    results = in_parallel(
        8, lambda n: users.register(db, chat_id=n + 1, telegram_username="ann", now=NOW)
    )
    assert [new for _, new in results] == [True] * 8
    assert sorted(name or "" for name in names(db).values()) == [""] * 7 + ["ann"]


def test_of_many_known_people_who_take_one_name_at_once_one_keeps_it(db: Database) -> None:
    for chat_id in range(1, 9):
        person(db, chat_id, None)
    results = in_parallel(
        8, lambda n: users.register(db, chat_id=n + 1, telegram_username="ann", now=NOW)
    )
    assert [new for _, new in results] == [False] * 8
    assert sorted(name or "" for name in names(db).values()) == [""] * 7 + ["ann"]


def test_one_person_who_registers_many_times_at_once_is_one_person(db: Database) -> None:
    results = in_parallel(
        8, lambda _: users.register(db, chat_id=7, telegram_username="ann", now=NOW)
    )
    assert sum(new for _, new in results) == 1
    assert names(db) == {7: "ann"}
