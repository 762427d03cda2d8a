"""The doctor's look outside: the chain's sources, Telegram and the group, and the clock."""

from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import pytest
from commands import Sandbox
from examining import GROUP, Configure, fail, only, play, told, witness
from helpers import MINUTE
from loopback import Answer, Asked, Loopback, as_json

from buffettsbot.core.app import utcnow
from buffettsbot.core.health import doctor
from buffettsbot.core.health.outside import (
    Witness,
    check_clock,
    check_source,
    check_telegram,
    milliseconds,
)


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("429-in-band", "warning", "too often"),
        ("429", "warning", "too often"),
        ("403-key", "failed", "status 403"),
        ("html", "failed", "not {name}"),
        ("array", "failed", "not {name}"),
        ("404", "failed", "not {name}"),
        ("500", "unknown", "in trouble"),
        ("502-html", "unknown", "in trouble"),
        ("reset", "unknown", "does not answer"),
    ],
)
@pytest.mark.parametrize("name", ["tronscan", "trongrid"])
def test_each_trouble_of_a_source_has_its_words(
    configured: Configure, well: Sandbox, name: str, fault: str, status: str, says: str
) -> None:
    fail(well, name, fault)
    found = list(check_source(configured(), name, witness()))
    assert told(found) == [(name, status)]
    assert says.format(name=name) in found[0].found


def test_each_key_of_a_source_is_tried(configured: Configure, well: Sandbox) -> None:
    play(well, "keys", service="trongrid", accepted=["key-one", "key-three"])
    settings = configured(trongrid_api_key="key-one, key-two, key-three")
    found = list(check_source(settings, "trongrid", witness()))
    assert told(found) == [("trongrid", status) for status in ("ok", "failed", "ok")]
    assert "API key 2 of 3" in found[1].found
    assert "BUFFETTSBOT_TRONGRID_API_KEY" in found[1].advice
    assert "key-" not in str(found)
    play(well, "keys", service="trongrid", accepted=["key-one"])
    (finding,) = check_source(configured(trongrid_api_key="key-one"), "trongrid", witness())
    assert finding.found.endswith(", with an API key")
    assert "of 1" not in finding.found
    (finding,) = check_source(configured(tronscan_api_key=None), "tronscan", witness())
    assert finding.found.endswith(", without an API key")


def test_a_dead_source_is_asked_once_and_not_with_each_key(
    configured: Configure, loopback: Loopback
) -> None:
    settings = configured(trongrid_api_key="key-one, key-two", trongrid_url=loopback.url)
    answers = iter([Answer(b"no", status=401)])
    loopback.answer = lambda _: next(answers, Answer(reset=True))
    found = list(check_source(settings, "trongrid", witness()))
    assert told(found) == [("trongrid", "failed"), ("trongrid", "unknown")]
    assert "status 401" in found[0].found
    assert told(check_source(settings, "trongrid", witness())) == [("trongrid", "unknown")]


def test_a_source_that_knows_what_does_not_exist_is_not_believed(
    configured: Configure, loopback: Loopback
) -> None:
    info = {"id": "0" * 64, "blockNumber": 1, "blockTimeStamp": 1_700_000_000_000}
    info |= {"receipt": {"result": "SUCCESS"}, "log": [], "contractResult": [""]}
    loopback.answer = as_json(info)
    (finding,) = check_source(configured(trongrid_url=loopback.url), "trongrid", witness())
    assert finding.status == "failed"
    assert "claims to know" in finding.found


def test_a_slow_answer_is_shown_and_a_deadline_kept(
    configured: Configure, loopback: Loopback
) -> None:
    def slow(_: object) -> Answer:
        sleep(0.3)
        return Answer(b"{}")

    loopback.answer = slow
    settings = configured(trongrid_url=loopback.url)
    (finding,) = check_source(settings, "trongrid", witness())
    number, unit = finding.found.split()[2:4]
    assert (int(number) >= 300, unit) == (True, "ms,")
    late = Witness(monotonic() + 0.1, utcnow)
    assert told(check_source(settings, "trongrid", late)) == [("trongrid", "unknown")]
    assert [milliseconds(seconds) for seconds in (0.0123, 9.5, 10.4)] == [
        *("12 ms", "9,500 ms", "10 seconds")
    ]


@pytest.mark.parametrize("result", ["a word", {"id": 7}, {"username": "x"}, []])
def test_what_only_looks_like_telegram_is_not(
    configured: Configure, loopback: Loopback, result: Any
) -> None:
    loopback.answer = as_json({"ok": True, "result": result})
    (finding,) = check_telegram(configured(telegram_url=loopback.url), witness())
    assert (finding.status, finding.found) == ("failed", "what answers is not Telegram")


@pytest.mark.parametrize(
    ("me", "says"),
    [
        ({"status": "administrator", "can_invite_users": True}, "may not ban users in"),
        ({"status": "restricted"}, "is no administrator of 'The circle' (but restricted)"),
        ({}, "is no administrator"),
    ],
)
def test_a_right_that_telegram_does_not_name_is_none(
    configured: Configure, loopback: Loopback, me: dict[str, Any], says: str
) -> None:
    group = {"id": GROUP, "title": "The circle", "type": "supergroup"}
    results = {"getMe": {"username": "bot", "id": 1}, "getChat": group, "getChatMember": me}

    def answer(asked: Asked) -> Answer:
        return as_json({"ok": True, "result": results[asked.path.rpartition("/")[2]]})

    loopback.answer = answer
    found = list(check_telegram(configured(telegram_url=loopback.url), witness()))
    assert told(found) == [("telegram", "ok"), ("group", "failed")]
    assert says in found[1].found


def test_a_malformed_group_is_told_with_the_settings(configured: Configure) -> None:
    assert told(check_telegram(configured(group_id="the circle"), witness())) == [
        ("telegram", "ok")
    ]


@pytest.mark.parametrize(
    ("world", "status", "says"),
    [
        ({"bot": {"can_invite_users": False}}, "failed", "may not invite users in"),
        ({"bot": {"can_restrict_members": False}}, "failed", "may not ban users in"),
        ({"bot": {"status": "member"}}, "failed", "no administrator"),
        ({"bot": {"status": "kicked"}}, "failed", "may not do its work"),
        ({"type": "group"}, "failed", "is a group, not a supergroup"),
        ({"type": "channel"}, "failed", "is a channel, not a supergroup"),
        ({}, "ok", "The circle"),
    ],
)
def test_the_bots_rights_are_looked_at(
    configured: Configure, well: Sandbox, world: dict[str, Any], status: str, says: str
) -> None:
    play(well, "telegram", group={"id": GROUP, **world})
    found = list(check_telegram(configured(), witness()))
    assert told(found) == [("telegram", "ok"), ("group", status)]
    assert says in found[1].found


def test_a_group_that_moved_is_named_by_its_new_id(configured: Configure, well: Sandbox) -> None:
    new = GROUP - 1
    play(well, "telegram", migrate={str(GROUP): new})
    try:
        finding = only(check_telegram(configured(), witness()), "group")
    finally:
        play(well, "telegram", migrate={str(GROUP): GROUP})
    assert (finding.status, str(new) in finding.advice) == ("failed", True)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401", "failed"), ("429", "warning"), ("500", "unknown"), ("html", "unknown")],
)
def test_each_trouble_of_telegram_has_its_status(
    configured: Configure, well: Sandbox, fault: str, status: str
) -> None:
    fail(well, "telegram", fault)
    found = list(check_telegram(configured(), witness()))
    assert told(found) == [("telegram", status)]
    assert "secret" not in str(found)


def test_without_a_token_or_a_group_it_says_what_that_means(configured: Configure) -> None:
    assert told(check_telegram(configured(telegram_token=None), witness())) == [
        ("telegram", "failed")
    ]
    found = list(check_telegram(configured(group_id=None), witness()))
    assert told(found) == [("telegram", "ok"), ("group", "ok")]
    assert "by hand" in found[1].found


@pytest.mark.parametrize(
    ("drift", "status", "says"),
    [
        (timedelta(seconds=10), "ok", "agrees"),
        (timedelta(minutes=3), "warning", "ahead of"),
        (-timedelta(minutes=9), "failed", "behind Telegram's"),
    ],
)
def test_the_clock_is_held_against_those_outside(
    configured: Configure, drift: timedelta, status: str, says: str
) -> None:
    configured()
    finding = only(doctor.examine(lambda: utcnow() + drift), "clock")
    assert finding.status == status
    assert says in finding.found


def test_one_wrong_clock_outside_is_not_believed(configured: Configure, loopback: Loopback) -> None:
    right, wrong = witness(), witness()
    right.drift, wrong.drift = timedelta(seconds=1), timedelta(days=1)
    assert told(check_clock([right, wrong])) == [("clock", "ok")]
    assert told(check_clock([wrong, right, wrong])) == [("clock", "failed")]
    assert told(check_clock([witness()])) == [("clock", "unknown")]
    cached = witness()
    loopback.answer = Answer(b"{}", headers={"age": "3600"})
    list(check_source(configured(tronscan_url=loopback.url), "tronscan", cached))
    assert cached.drift is not None
    assert round(cached.drift / MINUTE) == -60


@pytest.mark.parametrize(
    ("drift", "status"),
    [(30, "ok"), (30.1, "warning"), (-30.1, "warning"), (300, "warning"), (300.1, "failed")],
)
def test_a_clock_may_be_half_a_minute_off(drift: float, status: str) -> None:
    seen = witness()
    seen.drift = timedelta(seconds=drift)
    assert told(check_clock([seen, witness()])) == [("clock", status)]


def test_the_clock_is_read_in_the_middle_of_the_question(
    configured: Configure, loopback: Loopback
) -> None:
    start = utcnow()
    moments = iter([start, start + 2 * MINUTE])
    seen = witness(lambda: next(moments))
    settings = configured(tronscan_url=loopback.url)
    list(check_source(settings, "tronscan", seen))
    assert seen.drift is not None
    assert abs(seen.drift - MINUTE) < timedelta(seconds=10)
    unsaid = witness()
    loopback.answer = Answer(b"{}", headers={"age": "soon"})
    list(check_source(settings, "tronscan", unsaid))
    assert unsaid.drift is None
