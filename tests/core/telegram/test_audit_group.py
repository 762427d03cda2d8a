"""The audit-group pass against the sandbox's Telegram, over a real socket, on both databases."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from commands import Commands
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    STYLE,
    buy,
    fake_chain,
    hash_of,
    in_parallel,
    member,
    person,
    rows,
    staff,
    user,
    waits_for_a_lock,
)
from serving import Sandbox, sandboxed
from sqlalchemy import update
from sqlmodel import col

from buffettsbot.core.app import utcnow
from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import users
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, PassRun, Subscription, TelegramUser
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram import belonging, group_audit, pacing, roll_call
from buffettsbot.core.telegram.bot import Telegram, Trouble
from buffettsbot.core.telegram.delivery import deliver
from buffettsbot.core.telegram.group import Presence
from buffettsbot.core.telegram.group_audit import audit_group
from buffettsbot.core.telegram.roll_call import RollCall

pytestmark = pytest.mark.slow

TOKEN, GROUP = "123456:secret-token", -1001234567890
LATER = NOW + 31 * DAY


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    shared_sandbox.telegram(token=TOKEN, group={"id": GROUP})
    return shared_sandbox


@pytest.fixture(autouse=True)
def hurry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Telegram that takes as much as comes, but in the test of the pace."""
    if "second" not in request.node.name:
        monkeypatch.setattr(pacing, "SECOND", 0.01)


@pytest.fixture
def bot(sandbox: Sandbox) -> Telegram:
    return Telegram(sandbox.wire, sandbox.url, TOKEN, group=GROUP)


def run(db: Database, bot: Telegram, *, now: Any = NOW, **options: Any) -> Report:
    settings: dict[str, Any] = {"clock": lambda: now, "guard": 0.2} | options
    return audit_group(db, bot, **settings)


def inside(sandbox: Sandbox, *people: int, status: str | None = "member") -> None:
    sandbox.telegram(group={"members": {str(who): status for who in people}})


def members(sandbox: Sandbox) -> dict[str, str]:
    known: dict[str, str] = sandbox.telegram()["group"]["members"]
    return known


def noted(db: Database, *people: int) -> None:
    """Let the database believe that these are in the group."""
    with db.begin() as session:
        these = update(TelegramUser).where(col(TelegramUser.chat_id).in_(people))
        session.execute(these.values(at_private_group=True))


def delivered(db: Database, bot: Telegram, now: Any = NOW) -> None:
    deliver(db, bot, STYLE, clock=lambda: now)


def welcomed(db: Database, now: Any = NOW - 2 * DAY) -> None:
    """Let everything that is queued have been sent at some time."""
    with db.begin() as session:
        session.execute(update(Outbox).values(status="sent", sent_at=now))


def found(report: Report) -> list[tuple[int, str, str, bool]]:
    keys = ("chat_id", "problem", "action", "mended")
    return [tuple(item[key] for key in keys) for item in report.items]


def queued(db: Database, *kinds: str) -> list[tuple[str, int]]:
    wanted = kinds or ("remove", "invitation")
    return [(row.kind, row.chat_id) for row in rows(db, Outbox) if row.kind in wanted]


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.due, report.done, report.skipped, report.failed


def muddle(db: Database, sandbox: Sandbox) -> None:
    """One of each: 10 and 11 have no membership but are in, 12 is a member and out, 13 and 14 are
    noted wrongly, 15 and 16 are as they should be."""
    person(db, 10, "stranger")
    member(db, 11, "late", now=NOW - 40 * DAY)
    expire(db, now=NOW - DAY, guard=1, group=False)
    for number, name in ((12, "gone"), (13, "seen"), (15, "good")):
        member(db, number, name)
    person(db, 14, "left")
    person(db, 16, "fan")
    inside(sandbox, 10, 11, 13, 15)
    noted(db, 11, 12, 14, 15)
    welcomed(db)


MUDDLE = [
    (10, "no-membership", "remove"),
    (11, "no-membership", "remove"),
    (12, "not-in-group", "invite"),
    (13, "wrong-flag", "set-flag"),
    (14, "wrong-flag", "set-flag"),
]


def everything(db: Database) -> list[Any]:
    return [row.model_dump() for model in (TelegramUser, Outbox) for row in rows(db, model)]


def test_without_fix_it_says_what_is_wrong_and_changes_nothing(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    muddle(db, sandbox)
    before = everything(db)
    report = run(db, bot)
    assert found(report) == [(*wrong, False) for wrong in MUDDLE]
    assert counts(report) == (5, 0, 5, 0)
    assert report.dry_run
    assert everything(db) == before
    assert sandbox.telegram()["group"]["members"] == members(sandbox)


def test_with_fix_each_is_mended(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    muddle(db, sandbox)
    report = run(db, bot, fix=True)
    assert found(report) == [(*wrong, True) for wrong in MUDDLE]
    assert counts(report) == (5, 5, 0, 0)
    assert queued(db) == [("invitation", 12), ("remove", 10), ("remove", 11)]
    flags = {one.chat_id: one.at_private_group for one in rows(db, TelegramUser)}
    assert flags == {10: False, 11: False, 12: False, 13: True, 14: False, 15: True, 16: False}
    delivered(db, bot)
    assert members(sandbox) == {"10": "left", "11": "left", "13": "member", "15": "member"}
    sent = sandbox.state.telegram.sent
    (invitation,) = [one["text"] for one in sent if one["method"] == "sendMessage"]
    assert "https://t.me/+" in invitation
    assert run(db, bot, fix=True).due == 1  # 12 has an invitation and has not come yet


def test_again_queues_nothing_again(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    muddle(db, sandbox)
    run(db, bot, fix=True)
    once = everything(db)
    again = run(db, bot, fix=True)
    assert found(again) == [
        (10, "no-membership", "removal-queued", False),
        (11, "no-membership", "removal-queued", False),
        (12, "not-in-group", "invited", False),
    ]
    assert counts(again) == (3, 0, 3, 0)
    assert everything(db) == once


def test_whoever_comes_back_is_removed_again(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    person(db, 10, "stranger")
    for times in range(1, 4):
        inside(sandbox, 10)
        for _ in range(2):
            run(db, bot, fix=True)
        assert queued(db) == [("remove", 10)] * times
        delivered(db, bot, NOW + times * DAY)
        assert members(sandbox)["10"] == "left"
        assert run(db, bot).due == 0


def test_nobody_is_invited_twice_in_a_paid_period(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    member(db)
    assert found(run(db, bot, fix=True)) == [(7, "not-in-group", "invited", False)]  # the welcome
    welcomed(db, NOW - DAY / 2)
    assert run(db, bot, fix=True).done == 0
    assert run(db, bot, fix=True, now=NOW + DAY).done == 1
    for day in range(1, 6):
        welcomed(db, NOW + DAY)
        assert found(run(db, bot, fix=True, now=NOW + day * DAY))[0][2] == "invited"
    buy(db, hash_of(60), now=NOW + 6 * DAY)
    welcomed(db, NOW + 6 * DAY)
    assert run(db, bot, fix=True, now=NOW + 8 * DAY).done == 1
    assert queued(db) == [("invitation", 7)] * 2


@pytest.mark.parametrize("status", ["administrator", "creator"])
def test_whoever_runs_the_group_stays(
    db: Database, bot: Telegram, sandbox: Sandbox, status: str
) -> None:
    person(db, 10, "boss")
    inside(sandbox, 10, status=status)
    assert found(run(db, bot, fix=True)) == [(10, "wrong-flag", "set-flag", True)]
    assert user(db, 10).at_private_group is True
    assert run(db, bot, fix=True).due == 0


def test_staff_and_those_with_an_open_payment_are_left_alone(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    staff(db, 900)
    member(db)
    expire(db, now=LATER, guard=1, group=False)
    wanted = {"person": 7, "period": "1 month", "transaction_hash": hash_of(70)}
    claim(db, fake_chain({}), EXPECTATION, **wanted, now=LATER)  # type: ignore[arg-type]
    inside(sandbox, 7, 900)
    noted(db, 7, 900)
    assert run(db, bot, fix=True, now=LATER).due == 0


def says(sandbox: Sandbox, *, is_bot: bool = False, **answer: Any) -> None:
    """Let Telegram say something else of the next person; of the bot itself it says the truth."""
    rights = dict.fromkeys(group_audit.RIGHTS, True)
    me = {"ok": True, "result": {"status": "administrator", **rights}}
    someone = {"ok": True, "result": {"user": {"id": 10, "is_bot": is_bot}, **answer}}
    if "ok" in answer:
        someone = answer
    for body in (me, someone):
        sandbox.fail(
            "custom", "telegram", times=1, methods=["getChatMember"], body=body,
            status=body.get("error_code", 200),
        )  # fmt: skip


def test_what_telegram_says_is_read_as_it_is_meant(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    person(db, 10, "stranger")
    for is_bot, said, problem in (
        (True, {"status": "member"}, "wrong-flag"),
        (False, {"status": "member"}, "no-membership"),
        (False, {"status": "restricted", "is_member": True}, "no-membership"),
        (False, {"status": "restricted", "is_member": False}, None),
        (False, {"status": "left"}, None),
    ):
        says(sandbox, is_bot=is_bot, **said)
        assert [item["problem"] for item in run(db, bot).items] == ([problem] if problem else [])


def test_a_membership_that_is_over_but_not_ended_is_left_to_expire(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    member(db)
    inside(sandbox, 7)
    assert found(run(db, bot, fix=True, now=LATER)) == [(7, "no-membership", "pass-expire", False)]
    assert queued(db) == []


def test_a_banned_member_is_for_a_person_to_decide(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    member(db)
    welcomed(db)
    inside(sandbox, 7, status="kicked")
    assert found(run(db, bot, fix=True)) == [(7, "banned", "by-hand", False)]
    assert queued(db) == []


def test_whom_telegram_does_not_know_is_not_in_the_group(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    person(db, 10, "stranger")
    noted(db, 10)
    sandbox.telegram(not_found=[10])
    assert found(run(db, bot, fix=True)) == [(10, "wrong-flag", "set-flag", True)]


def test_one_who_cannot_be_asked_about_fails_alone(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    muddle(db, sandbox)
    says(sandbox, ok=False, error_code=400, description="Bad Request: odd")
    report = run(db, bot, fix=True)
    assert report.failed == 1
    (failed,) = [item for item in report.items if item["problem"] == "not-asked"]
    assert "odd" in failed["error"]
    assert report.done >= 4
    assert run(db, bot, fix=True).failed == 0


def test_what_a_person_has_to_mend_stops_it_with_the_cure(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    muddle(db, sandbox)
    before = everything(db)
    weak = {"status": "administrator", "can_restrict_members": False}
    sandbox.telegram(group={"bot": weak})
    assert run(db, bot).due == 5
    for world, cure in (
        ({"group": {"bot": weak}}, "can_restrict_members.*Make it an administrator"),
        ({"group": {"bot": {"status": "member"}}}, "Make it an administrator"),
        ({"group": {"bot": {"status": "kicked"}}}, "BUFFETTSBOT_GROUP_ID"),
        ({"revoked": True}, "BUFFETTSBOT_TELEGRAM_TOKEN"),
    ):
        sandbox.telegram(**world)
        with pytest.raises(NotAllowed, match=cure) as caught:
            run(db, bot, fix=True)
        assert TOKEN not in str(caught.value)
    assert everything(db) == before


def test_an_outage_stops_it_and_says_how_far_it_came(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    muddle(db, sandbox)
    sandbox.fail("500", "telegram")
    with pytest.raises(Unavailable, match=r"Of 7 people 0 were asked"):
        run(db, bot)
    sandbox.reset_faults()
    says(sandbox, ok=False, error_code=500, description="Internal Server Error")
    for _ in range(20):
        sandbox.fail("500", "telegram", methods=["getChatMember"])
    with pytest.raises(Unavailable, match=r"Of 7 people 4 were asked"):
        run(db, bot)


def test_trouble_with_one_here_and_there_stops_nobody(
    db: Database, bot: Telegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100, 112):
        person(db, number, f"user{number}")

    def ask(_roll_call: RollCall, who: Any) -> Presence | Trouble:
        return Trouble("odd", sent=False) if who.chat_id % 2 else Presence("left", is_in=False)

    monkeypatch.setattr(RollCall, "_ask", ask)
    assert counts(run(db, bot)) == (6, 0, 0, 6)


def test_a_short_pause_is_waited_for(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    muddle(db, sandbox)
    says(sandbox, ok=False, error_code=429, parameters={"retry_after": 1})
    assert run(db, bot).due == 5
    asked = [e for e in sandbox.state.requests["telegram"] if e["method"] == "getChatMember"]
    assert len(asked) == 1 + 7 + 1
    assert max(e["at"] for e in asked) - asked[1]["at"] >= 1


def test_a_long_pause_ends_it_for_everyone(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    muddle(db, sandbox)
    says(sandbox, ok=False, error_code=429, parameters={"retry_after": 40})
    with pytest.raises(Unavailable, match="a pause of 40 s"):
        run(db, bot)
    row = {"key": "x", "kind": "remove", "chat_id": 10, "payload": {}, "now": NOW}
    with db.begin() as session:
        outbox.queue(session.connection(), **row)  # type: ignore[arg-type]
    assert deliver(db, bot, STYLE, clock=lambda: NOW).skipped == 1
    with pytest.raises(Unavailable, match="a pause of 40 s"):
        run(db, bot)
    assert run(db, bot, now=NOW + timedelta(seconds=39.5)).due == 5


def test_never_more_than_thirty_questions_in_a_second(sqlite_url: str, sandbox: Sandbox) -> None:
    db = Database(sqlite_url)
    for number in range(1, 41):
        person(db, number, f"user{number}")
    run(db, Telegram(sandbox.wire, sandbox.url, TOKEN, group=GROUP))
    times = [e["at"] for e in sandbox.state.requests["telegram"] if e["method"] == "getChatMember"]
    assert len(times) == 41
    assert all(times[n + 30] - times[n] >= 1.0 for n in range(1, 11))
    db.close()


def crowd(db: Database, sandbox: Sandbox, count: int) -> list[int]:
    people = list(range(100, 100 + count))
    for number in people:
        person(db, number, f"user{number}")
    inside(sandbox, *people)
    return people


def test_an_abnormal_share_stops_the_removals_and_names_the_way_on(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    people = crowd(db, sandbox, 21)
    assert run(db, bot).due == 21
    with pytest.raises(NotAllowed, match=r"take 21 of the 21 people.*--fix --force"):
        run(db, bot, fix=True)
    with pytest.raises(NotAllowed):
        run(db, bot, fix=True, limit=5)
    assert queued(db) == []
    assert run(db, bot, fix=True, force=True).done == 21
    assert [who for _, who in queued(db)] == people


def test_limited_runs_get_to_the_end_page_by_page(
    db: Database, bot: Telegram, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_call, "CHUNK", 3)
    people = crowd(db, sandbox, 7)
    person(db, 200, "left")
    noted(db, 200)
    reports = [run(db, bot, fix=True, limit=3) for _ in range(4)]
    assert [(report.due, report.done) for report in reports] == [(8, 3), (7, 3), (7, 2), (7, 0)]
    assert sorted(who for _, who in queued(db)) == people
    assert user(db, 200).at_private_group is False


def test_whoever_pays_while_others_are_asked_about_stays(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    for number in (10, 11):
        person(db, number, f"stranger{number}")
    inside(sandbox, 10, 11)

    def pay(asked: int, known: int) -> None:
        if asked == known:
            member(db, 10, "stranger10")
            wanted = {"person": 11, "period": "1 month", "transaction_hash": hash_of(70)}
            claim(db, fake_chain({}), EXPECTATION, **wanted, now=NOW)  # type: ignore[arg-type]

    report = run(db, bot, fix=True, watch=pay)
    assert found(report) == [(who, "no-membership", "remove", False) for who in (10, 11)]
    assert queued(db) == []


def test_a_payment_that_is_being_settled_is_waited_for(postgresql_url: str) -> None:
    db = Database(postgresql_url)
    person(db, 10, "stranger")
    (seen,) = belonging.people(db, 0, 10, now=NOW)
    removed: list[bool] = []
    removing = threading.Thread(target=lambda: removed.append(belonging.remove(db, seen, now=NOW)))
    with db.begin() as session:
        users.lock(session.connection(), 10)
        session.add(Subscription(
            transaction_hash="x", customer_id=10, start_date=NOW, end_date=LATER, duration=1
        ))  # fmt: skip
        session.flush()
        removing.start()
        while not waits_for_a_lock(db):
            pass
    removing.join()
    assert removed == [False]
    assert queued(db) == []
    db.close()


def test_whoever_joins_after_they_were_asked_about_is_not_invited(
    db: Database, bot: Telegram
) -> None:
    member(db)
    welcomed(db)
    (seen,) = belonging.people(db, 0, 10, now=NOW)
    noted(db, 7)
    assert belonging.invite(db, seen, now=NOW) is False
    assert user(db, 7).at_private_group is True
    assert queued(db) == []


def test_two_at_once_queue_each_thing_once(db: Database, bot: Telegram, sandbox: Sandbox) -> None:
    muddle(db, sandbox)
    reports = in_parallel(3, lambda _: run(db, bot, fix=True))
    assert [report for report in reports if isinstance(report, Exception)] == []
    assert sorted(queued(db)) == [("invitation", 12), ("remove", 10), ("remove", 11)]
    assert sum(report.done for report in reports) == 5


def test_one_that_dies_anywhere_is_followed_by_another(
    db: Database, bot: Telegram, sandbox: Sandbox
) -> None:
    muddle(db, sandbox)
    for last in range(1, 8):

        def dies(asked: int, known: int, last: int = last) -> None:
            if asked == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(db, bot, fix=True, watch=dies)
    run(db, bot, fix=True)
    assert sorted(queued(db)) == [("invitation", 12), ("remove", 10), ("remove", 11)]


# The command


@pytest.fixture
def command(database_url: str, sandbox: Sandbox) -> Commands:
    return Commands(database_url, telegram_token=TOKEN, group_id=GROUP, telegram_url=sandbox.url)


def test_the_command_shows_and_records_it(
    command: Commands, db: Database, sandbox: Sandbox
) -> None:
    person(db, 4_503_599_627_370_000, None)
    person(db, 10, "a_name_of_thirty_two_letters_yes")
    member(db, 12, "gone", now=utcnow())
    inside(sandbox, 10, 4_503_599_627_370_000)
    shown = command.on_terminal("pass", "audit-group")
    assert shown.code == 0
    assert shown.widest <= 80
    for words in ("@a_name_of_thirty_two_letters_yes", "no-membership", "4503599627370000"):
        assert words in shown.text, shown.text
    assert "3 due, 0 done, 3 left, 0 failed (dry run, nothing was changed)" in shown.text
    done = command("pass", "audit-group", "--fix", "--json").json()
    assert {key: done[key] for key in ("pass", "due", "done", "skipped", "dry_run")} == {
        "pass": "audit-group", "due": 3, "done": 2, "skipped": 1, "dry_run": False,
    }  # fmt: skip
    assert done["items"][0] == {
        "chat_id": 10,
        "telegram_username": "a_name_of_thirty_two_letters_yes",
        "end_date": None,
        "at_private_group": False,
        "status": "member",
        "problem": "no-membership",
        "action": "remove",
        "mended": True,
        "error": None,
    }
    assert [(row.name, row.report["due"]) for row in rows(db, PassRun)] == [("audit-group", 3)] * 2


def test_the_command_needs_a_group_and_says_so(sqlite_url: str, sandbox: Sandbox) -> None:
    bare = Commands(sqlite_url, telegram_url=sandbox.url)
    bare.inside("pass", "audit-group").refused(4, "BUFFETTSBOT_TELEGRAM_TOKEN is not set")
    homeless = Commands(sqlite_url, telegram_url=sandbox.url, telegram_token=TOKEN)
    homeless.inside("pass", "audit-group").refused(4, "BUFFETTSBOT_GROUP_ID is not set")
    for option in (["--force"], ["--limit", "3"]):
        homeless.inside("pass", "audit-group", *option).refused(2, "--fix")
