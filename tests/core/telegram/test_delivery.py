"""The deliver pass against the sandbox's Telegram, over a real socket, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from helpers import (
    DAY,
    MINUTE,
    NOW,
    STYLE,
    buy,
    hash_of,
    in_parallel,
    member,
    person,
    rows,
    shop,
    staff,
)
from sqlalchemy import update
from sqlmodel import col

from buffettsbot.core.errors import NotAllowed
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.delivery import LEASE, deliver
from buffettsbot.core.telegram.pacing import Pacer
from buffettsbot.core.wire import Wire
from buffettsbot.http.sandbox import running_sandbox

TOKEN = "123456:secret-token"
GROUP = -1001234567890


class World:
    """A Telegram of our own."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self.http = http
        self.wires: list[Wire] = []
        self.configure(token=TOKEN)

    def configure(self, **world: Any) -> None:
        self.http.post("/_sandbox/telegram", json=world).raise_for_status()

    def fault(self, fault: str, **more: Any) -> None:
        body = {"service": "telegram", "fault": fault, **more}
        self.http.post("/_sandbox/faults", json=body).raise_for_status()

    def heal(self) -> None:
        self.http.delete("/_sandbox/faults").raise_for_status()

    def sent(self, *, ok: bool = True) -> list[dict[str, Any]]:
        found = self.http.get("/_sandbox/telegram/sent").json()
        return [one for one in found if one["ok"] is ok]

    def bot(self, *, group: int | None = None, token: str = TOKEN) -> Telegram:
        self.wires.append(Wire())
        return Telegram(self.wires[-1], self.url, token, group=group)


@pytest.fixture
def telegram() -> Iterator[World]:
    with running_sandbox() as url, httpx.Client(base_url=url, trust_env=False) as http:
        world = World(url, http)
        yield world
        for wire in world.wires:
            wire.close()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def queue(db: Database, *chats: int, kind: str = "payment-pending") -> None:
    """Queue one message for each chat."""
    payload = {
        "first_name": "Ann",
        "last_name": "",
        "telegram_username": "ann",
        "plan": "1 month",
        "price": 50,
        "transaction_hash": hash_of(1),
        "reason": "unconfirmed",
        "start_date": NOW.isoformat(),
        "end_date": (NOW + 30 * DAY).isoformat(),
    }
    with db.begin() as session:
        for number, chat_id in enumerate(chats):
            outbox.queue(
                session.connection(),
                key=f"test:{kind}:{chat_id}:{number}",
                kind=kind,
                chat_id=chat_id,
                payload=payload | {"chat_id": chat_id},
                now=NOW,
            )


def run(db: Database, bot: Telegram, clock: Any = None) -> Report:
    return deliver(db, bot, STYLE, clock=clock or (lambda: NOW))


def states(db: Database) -> list[tuple[int, str]]:
    return [(row.chat_id, row.status) for row in rows(db, Outbox)]


def test_what_is_queued_is_sent_and_written_down(db: Database, telegram: World) -> None:
    queue(db, 7, 8)
    report = run(db, telegram.bot())
    assert (report.due, report.done, report.skipped, report.failed) == (2, 2, 0, 0)
    assert {one["chat_id"] for one in telegram.sent()} == {7, 8}
    assert {row.sent_at for row in rows(db, Outbox)} == {NOW}
    assert run(db, telegram.bot()).due == 0
    assert len(telegram.sent()) == 2


def test_a_claim_reaches_the_customer_and_every_admin(db: Database, telegram: World) -> None:
    staff(db, 900, 901)
    shop(db)
    person(db, 7, "ann")
    buy(db, hash_of(1))
    run(db, telegram.bot())
    assert {one["chat_id"] for one in telegram.sent()} == {7, 900, 901}
    (notice,) = [one["text"] for one in telegram.sent() if one["chat_id"] == 900]
    assert "🟢" in notice
    assert hash_of(1) in notice


@pytest.mark.slow
def test_one_chat_gets_its_messages_in_order_a_second_apart(db: Database, telegram: World) -> None:
    queue(db, 7, 7, 7)
    run(db, telegram.bot())
    times = [one["at"] for one in telegram.sent()]
    assert len(times) == 3
    assert all(later - earlier >= 0.99 for earlier, later in zip(times, times[1:], strict=False))


@pytest.mark.slow
def test_never_more_than_thirty_in_any_second(db: Database, telegram: World) -> None:
    queue(db, *range(100, 190))
    run(db, telegram.bot())
    times = sorted(one["at"] for one in telegram.sent())
    assert len(times) == 90
    assert all(times[n + 30] - times[n] >= 1.0 for n in range(60))


def test_two_deliverers_at_once_send_each_message_once(db: Database, telegram: World) -> None:
    queue(db, *range(100, 120))
    reports = in_parallel(4, lambda _: run(db, telegram.bot()))
    assert [r for r in reports if isinstance(r, Exception)] == []
    assert sum(report.done for report in reports) == 20
    assert sorted(one["chat_id"] for one in telegram.sent()) == list(range(100, 120))


def test_a_dead_deliverer_is_followed_when_its_lease_is_over(db: Database, telegram: World) -> None:
    queue(db, 7)
    leases.take(db, LEASE, holder="the dead", now=NOW, until=NOW + MINUTE)
    assert run(db, telegram.bot()).skipped == 1
    assert telegram.sent() == []
    assert run(db, telegram.bot(), lambda: NOW + MINUTE).done == 1


def test_what_was_in_flight_at_a_kill_is_sent_again_and_says_so(
    db: Database, telegram: World
) -> None:
    queue(db, 7, 8)
    with db.begin() as session:
        dying = update(Outbox).where(col(Outbox.chat_id) == 7)
        session.execute(dying.values(leased_until=NOW + MINUTE, attempts=1))
    assert run(db, telegram.bot()).done == 1  # only what nobody holds
    assert run(db, telegram.bot(), lambda: NOW + 2 * MINUTE).done == 1
    texts = {one["chat_id"]: one["text"] for one in telegram.sent()}
    assert texts[7] != texts[8]
    assert len(texts[7]) > len(texts[8])


@pytest.mark.parametrize("world", ["blocked", "deactivated", "not_found"])
def test_whoever_cannot_be_reached_fails_alone_and_the_admins_hear(
    db: Database, telegram: World, world: str
) -> None:
    staff(db, 900)
    telegram.configure(**{world: [7]})
    queue(db, 7, 8)
    report = run(db, telegram.bot())
    assert (report.done, report.failed) == (1, 1)
    failed = [row for row in rows(db, Outbox) if row.status == "failed"]
    assert [row.chat_id for row in failed] == [7]
    assert failed[0].error
    run(db, telegram.bot(), lambda: NOW + MINUTE)
    (digest,) = [one["text"] for one in telegram.sent() if one["chat_id"] == 900]
    assert "ann" in digest


def test_a_staff_member_who_blocked_the_bot_makes_no_digest_of_digests(
    db: Database, telegram: World
) -> None:
    staff(db, 900)
    telegram.configure(blocked=[7, 900])
    queue(db, 7)
    for minutes in range(4):
        run(db, telegram.bot(), lambda at=minutes: NOW + at * MINUTE)
    assert len([row for row in rows(db, Outbox) if row.kind == "digest-deliver"]) == 1


def test_a_pause_that_telegram_wants_is_kept_by_everyone(db: Database, telegram: World) -> None:
    telegram.fault("429", times=1, retry_after=40)
    queue(db, 7)
    clock = Clock()
    assert run(db, telegram.bot(), clock).skipped == 1
    clock.now = NOW + timedelta(seconds=39)
    queue(db, 8)
    assert run(db, telegram.bot(), clock).done == 0
    assert telegram.sent() == []
    clock.now = NOW + timedelta(seconds=41)
    assert run(db, telegram.bot(), clock).done == 2
    assert [row.attempts for row in rows(db, Outbox)] == [1, 1]


@pytest.mark.slow
def test_a_short_pause_is_kept_to_the_second(db: Database, telegram: World) -> None:
    telegram.fault("429", times=1, retry_after=2)
    queue(db, 7, 8)
    run(db, telegram.bot(), lambda: datetime.now(UTC))
    tried = telegram.sent(ok=False)
    assert (
        run(db, telegram.bot(), lambda: datetime.now(UTC) + 3 * DAY).done + len(telegram.sent())
        >= 2
    )
    later = [one["at"] for one in telegram.sent() if one["at"] > tried[0]["at"] + 0.5]
    assert all(at - tried[0]["at"] >= 2.0 for at in later)


@pytest.mark.parametrize("fault", ["500", "502-html", "reset", "html", "empty"])
def test_trouble_at_telegram_is_tried_again_with_growing_delay(
    db: Database, telegram: World, fault: str
) -> None:
    telegram.fault(fault)
    queue(db, 7)
    clock = Clock()
    waits = []
    for _ in range(3):
        assert run(db, telegram.bot(), clock).skipped == 1
        (row,) = rows(db, Outbox)
        waits.append((row.not_before - clock.now).total_seconds())
        clock.now = row.not_before + MINUTE
    assert waits == [30, 60, 120]
    telegram.heal()
    assert run(db, telegram.bot(), clock).done == 1


def test_an_outage_ends_the_pass_early(db: Database, telegram: World) -> None:
    telegram.fault("500")
    queue(db, *range(100, 200))
    report = run(db, telegram.bot())
    assert report.due < 100
    assert report.failed == 0
    assert {row.status for row in rows(db, Outbox)} == {"queued"}


def test_a_revoked_token_stops_the_pass_names_the_cure_and_loses_nothing(
    db: Database, telegram: World
) -> None:
    telegram.configure(revoked=True)
    queue(db, 7, 8, 9)
    with pytest.raises(NotAllowed, match="BUFFETTSBOT_TELEGRAM_TOKEN") as caught:
        run(db, telegram.bot())
    assert TOKEN not in str(caught.value)
    assert [(row.status, row.attempts) for row in rows(db, Outbox)] == [("queued", 0)] * 3
    telegram.configure(revoked=False)
    assert run(db, telegram.bot(), lambda: NOW + MINUTE).done == 3


def test_whoever_is_not_sent_anything_any_more_is_left_as_before(
    db: Database, telegram: World
) -> None:
    """More than there are workers: some of them begin only when the run is stopped."""
    telegram.configure(revoked=True)
    queue(db, *range(100, 130))
    with pytest.raises(NotAllowed):
        run(db, telegram.bot())
    left = {(row.status, row.attempts, row.leased_until) for row in rows(db, Outbox)}
    assert left == {("queued", 0, None)}
    assert len(telegram.sent(ok=False)) < 30


def test_a_token_revoked_midway_burns_nothing(db: Database, telegram: World) -> None:
    queue(db, *range(100, 104))
    telegram.fault("401", chat_id=102)
    with pytest.raises(NotAllowed):
        run(db, telegram.bot())
    telegram.heal()
    run(db, telegram.bot(), lambda: NOW + MINUTE)
    assert {status for _, status in states(db)} == {"sent"}
    assert sorted(one["chat_id"] for one in telegram.sent()) == [100, 101, 102, 103]


def test_removal_bans_and_unbans_so_that_they_may_come_back(db: Database, telegram: World) -> None:
    telegram.configure(group={"id": GROUP, "members": {"7": "member"}})
    queue(db, 7, kind="remove")
    assert run(db, telegram.bot(group=GROUP)).done == 1
    assert [one["method"] for one in telegram.sent()] == ["banChatMember", "unbanChatMember"]
    members = telegram.http.get("/_sandbox/telegram").json()["group"]["members"]
    assert members["7"] == "left"


@pytest.mark.parametrize("status", ["administrator", "creator"])
def test_owners_and_administrators_of_the_group_are_never_removed(
    db: Database, telegram: World, status: str
) -> None:
    telegram.configure(group={"id": GROUP, "members": {"7": status}})
    queue(db, 7, kind="remove")
    assert run(db, telegram.bot(group=GROUP)).done == 1
    members = telegram.http.get("/_sandbox/telegram").json()["group"]["members"]
    assert members["7"] == status


def test_lost_rights_in_the_group_stop_the_pass_with_the_cure(
    db: Database, telegram: World
) -> None:
    telegram.configure(
        group={
            "id": GROUP,
            "members": {"7": "member"},
            "bot": {"status": "administrator", "can_restrict_members": False},
        }
    )
    queue(db, 7, kind="remove")
    with pytest.raises(NotAllowed, match="administrator"):
        run(db, telegram.bot(group=GROUP))
    assert states(db) == [(7, "queued")]


def test_a_welcome_carries_an_invitation_that_asks_to_join(db: Database, telegram: World) -> None:
    telegram.configure(group={"id": GROUP, "members": {}})
    member(db)
    run(db, telegram.bot(group=GROUP))
    made, welcome = telegram.sent()
    assert made["method"] == "createChatInviteLink"
    assert made["creates_join_request"] in (True, "true")
    assert "https://t.me/+" in welcome["text"]


def test_a_group_that_migrated_is_followed(db: Database, telegram: World) -> None:
    telegram.configure(group={"id": GROUP, "members": {"7": "member"}}, migrate={"-500": GROUP})
    queue(db, 7, kind="remove")
    assert run(db, telegram.bot(group=-500)).done == 1


def test_whoever_renews_while_their_removal_waits_its_turn_stays(
    db: Database, telegram: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    telegram.configure(group={"id": GROUP, "members": {"7": "member"}})
    queue(db, 7, kind="remove")
    wait = Pacer.turn

    def renewed_meanwhile(pacer: Pacer) -> None:
        wait(pacer)
        with db.begin() as session:
            outbox.cancel(session.connection(), 7, ("remove",))

    monkeypatch.setattr(Pacer, "turn", renewed_meanwhile)
    report = run(db, telegram.bot(group=GROUP))
    assert telegram.sent() == []
    assert states(db) == [(7, "cancelled")]
    assert (report.done, report.skipped, report.failed) == (0, 1, 0)


def test_a_removal_that_has_begun_is_finished(
    db: Database, telegram: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    telegram.configure(group={"id": GROUP, "members": {"7": "member"}})
    queue(db, 7, kind="remove")
    wait, turns = Pacer.turn, []

    def renewed_after_the_ban(pacer: Pacer) -> None:
        wait(pacer)
        turns.append(pacer)
        if len(turns) == 2:
            with db.begin() as session:
                outbox.cancel(session.connection(), 7, ("remove",))

    monkeypatch.setattr(Pacer, "turn", renewed_after_the_ban)
    run(db, telegram.bot(group=GROUP))
    assert [one["method"] for one in telegram.sent()] == ["banChatMember", "unbanChatMember"]


def test_a_row_that_waited_its_lease_out_is_left_to_the_next_deliverer(
    db: Database, telegram: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pauses one after the other may keep a row waiting until somebody else has it in hand."""
    queue(db, 7)
    clock, wait = Clock(), Pacer.turn

    def long_wait(pacer: Pacer) -> None:
        wait(pacer)
        clock.now += timedelta(seconds=59)

    monkeypatch.setattr(Pacer, "turn", long_wait)
    assert run(db, telegram.bot(), clock).skipped == 1
    monkeypatch.undo()
    assert telegram.sent() == []
    clock.now += MINUTE
    assert run(db, telegram.bot(), clock).done == 1

    def taken_by_another(pacer: Pacer) -> None:
        wait(pacer)
        with db.begin() as session:
            taken = {"attempts": col(Outbox.attempts) + 1, "leased_until": NOW + DAY}
            session.execute(update(Outbox).where(col(Outbox.chat_id) == 8).values(**taken))

    queue(db, 8)
    monkeypatch.setattr(Pacer, "turn", taken_by_another)
    run(db, telegram.bot(), clock)
    assert [one["chat_id"] for one in telegram.sent()] == [7]


def test_one_row_that_cannot_be_made_into_a_message_stops_nobody_elses(
    db: Database, telegram: World
) -> None:
    """As when a newer version on another host queued what this one does not know."""
    queue(db, 7, kind="of-tomorrow")
    queue(db, 8)
    report = run(db, telegram.bot())
    assert (report.done, report.skipped) == (1, 1)
    first, second = rows(db, Outbox)
    assert (first.status, second.status) == ("queued", "sent")
    assert first.not_before > NOW
    assert "Invalid" in first.error


def test_a_number_that_became_anothers_settles_nothing(
    db: Database, telegram: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup was restored while a message was under way."""
    queue(db, 7)
    send = Telegram.call

    def send_and_restore(bot: Telegram, *args: Any, **kwargs: Any) -> Any:
        result = send(bot, *args, **kwargs)
        with db.begin() as session:
            session.execute(update(Outbox).values(key="another", chat_id=8, leased_until=None))
        return result

    monkeypatch.setattr(Telegram, "call", send_and_restore)
    deliver(db, telegram.bot(), STYLE, clock=lambda: NOW, limit=1)
    assert states(db) == [(8, "queued")]
