"""The sandbox's Telegram, through a real socket."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from buffettsbot.http.sandbox import running_sandbox
from buffettsbot.http.sandbox.state import SandboxState

BOT = "/bot123456789:AAtoken"
GROUP = -1001234567890
ANN, BOB, EVE, OWNER, ADMIN = 11, 12, 13, 14, 15


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with running_sandbox() as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
def http(server: httpx.Client) -> httpx.Client:
    server.post("/_sandbox/reset").raise_for_status()
    return server


@pytest.fixture
def group(http: httpx.Client) -> httpx.Client:
    members = {ANN: "member", OWNER: "creator", ADMIN: "administrator", EVE: "kicked"}
    know(http, group={"id": GROUP, "members": members})
    return http


def know(http: httpx.Client, **spec: Any) -> Any:
    answer = http.post("/_sandbox/telegram", json=spec)
    assert answer.status_code == 200, answer.text
    return answer.json()


def call(http: httpx.Client, method: str, **args: Any) -> Any:
    answer = http.post(f"{BOT}/{method}", json=args)
    body = answer.json()
    assert answer.status_code == (200 if body["ok"] else body["error_code"])
    assert answer.headers["Content-Type"] == "application/json"
    return body


def refusal(http: httpx.Client, method: str, **args: Any) -> tuple[int, str]:
    body = call(http, method, **args)
    assert list(body)[:3] == ["ok", "error_code", "description"]
    return body["error_code"], body["description"]


def on_group(http: httpx.Client, method: str, person: int, **args: Any) -> Any:
    body = call(http, method, chat_id=GROUP, user_id=person, **args)
    return body["result"] if body["ok"] else body["description"].removeprefix("Bad Request: ")


def status(http: httpx.Client, person: int) -> str:
    return str(on_group(http, "getChatMember", person)["status"])


def sent(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/_sandbox/telegram/sent", params=query).json()
    return found


def test_the_bot_is_known_by_its_token(http: httpx.Client) -> None:
    me = call(http, "getMe")["result"]
    assert list(me)[:5] == ["id", "is_bot", "first_name", "username", "can_join_groups"]
    assert (me["id"], me["is_bot"]) == (123456789, True)
    know(http, token="123456789:AAtoken")
    answers = {
        "/bot123456789:AAother/getMe": (401, "Unauthorized: invalid token specified"),
        "/botnonsense/getMe": (404, "Not Found"),
        "/bot/getMe": (404, "Not Found"),
        f"{BOT}/getNothing": (404, "Not Found: method not found"),
    }
    for path, expected in answers.items():
        body = http.get(path).json()
        assert (body["error_code"], body["description"]) == expected
    assert http.get(f"{BOT}/GETME").json() == http.get(f"{BOT}/test/getMe").json()
    know(http, revoked=True)
    assert refusal(http, "getMe") == (401, "Unauthorized")


def test_a_message_is_answered_and_remembered(http: httpx.Client) -> None:
    know(http, users={ANN: {"first_name": "Ann", "username": "ann_x"}})
    message = call(http, "sendMessage", chat_id=ANN, text="<b>5 &lt; 6</b>", parse_mode="HTML")
    assert message["result"] == {
        "message_id": 1,
        "from": {
            "id": 123456789,
            "is_bot": True,
            "first_name": "Gate",
            "username": "gate_test_bot",
        },
        "chat": {"id": ANN, "first_name": "Ann", "username": "ann_x", "type": "private"},
        "date": message["result"]["date"],
        "text": "5 < 6",
    }
    call(http, "sendMessage", chat_id=str(BOB), text="hi")
    call(http, "sendChatAction", chat_id=BOB, action="typing")
    first, second, third = sent(http)
    assert first.keys() == {"at", "method", "chat_id", "text", "parse_mode", "ok"}
    assert (first["chat_id"], first["text"], first["ok"]) == (ANN, "<b>5 &lt; 6</b>", True)
    assert abs(first["at"] - time.time()) < 10
    assert sent(http, chat_id=BOB) == [second, third]
    assert sent(http, chat_id=BOB, method="sendmessage") == [second]
    http.delete("/_sandbox/telegram/sent")
    assert sent(http) == []


def test_arguments_come_in_every_way(http: httpx.Client) -> None:
    text = "привет & 👋"
    args = {"chat_id": str(ANN), "text": text}
    answers = [
        http.get(f"{BOT}/sendMessage", params=args),
        http.post(f"{BOT}/sendMessage", data=args),
        http.post(f"{BOT}/sendMessage", json=args),
        http.post(f"{BOT}/sendMessage", data=args, files={"unused": b"x"}),
        http.post(f"{BOT}/sendMessage", params={"chat_id": ANN}, json={"text": text}),
    ]
    assert [answer.json()["result"]["text"] for answer in answers] == [text] * 5
    assert [entry["text"] for entry in sent(http, chat_id=ANN)] == [text] * 5
    bad = http.post(f"{BOT}/sendMessage", content=b"chat_id=11&text=%FF")
    assert bad.json()["description"] == "Bad Request: text must be encoded in UTF-8"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"text": ""}, "message text is empty"),
        ({}, "message text is empty"),
        ({"text": " \n "}, "text must be non-empty"),
        ({"text": "x" * 4097}, "message is too long"),
        ({"text": "👋" * 2049}, "message is too long"),
        ({"text": "x", "chat_id": ""}, "chat_id is empty"),
        ({"text": "x", "chat_id": "@ann_x"}, "chat not found"),
        ({"text": "x", "chat_id": -5}, "chat not found"),
        ({"text": "x", "parse_mode": "bbcode"}, "unsupported parse_mode"),
        (
            {"text": "<b>x", "parse_mode": "HTML"},
            "can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
        (
            {"text": "é <p>x</p>", "parse_mode": "html"},
            'can\'t parse entities: Unsupported start tag "p" at byte offset 3',
        ),
        (
            {"text": "<b><i>x</b></i>", "parse_mode": "HTML"},
            "can't parse entities: Unmatched end tag at byte offset 7, "
            'expected "</i>", found "</b>"',
        ),
        (
            {"text": "x</b>", "parse_mode": "HTML"},
            "can't parse entities: Unexpected end tag at byte offset 1",
        ),
        (
            {"text": "a < b", "parse_mode": "HTML"},
            "can't parse entities: Unclosed start tag at byte offset 2",
        ),
    ],
)
def test_a_wrong_message_is_refused(http: httpx.Client, args: dict[str, Any], said: str) -> None:
    assert refusal(http, "sendMessage", **{"chat_id": ANN, **args}) == (400, f"Bad Request: {said}")
    assert [(entry["ok"], entry["error_code"]) for entry in sent(http)] == [(False, 400)]


def test_the_longest_message_is_taken(http: httpx.Client) -> None:
    long = {"text": "<b>" + "👋" * 2048 + "</b>", "parse_mode": "HTML"}
    assert call(http, "sendMessage", chat_id=ANN, **long)["ok"]
    link = '<a href="https://tronscan.org/#/transaction/1?a=1&amp;b=2">x</a>'
    assert call(http, "sendMessage", chat_id=ANN, text=link, parse_mode="HTML")["ok"]


def test_some_people_cannot_be_written_to(http: httpx.Client) -> None:
    know(http, blocked=[1], deactivated=[2], not_found=[3], never_started=[4])
    refusals = {
        1: (403, "Forbidden: bot was blocked by the user"),
        2: (403, "Forbidden: user is deactivated"),
        3: (400, "Bad Request: chat not found"),
        4: (403, "Forbidden: bot can't initiate conversation with a user"),
    }
    for person, expected in refusals.items():
        for method in ("sendMessage", "sendChatAction"):
            args = {"chat_id": person, "text": "x", "action": "typing"}
            assert refusal(http, method, **args) == expected
    assert call(http, "getChat", chat_id=1)["result"]["type"] == "private"
    assert refusal(http, "sendMessage", chat_id=123456789, text="x")[0] == 403
    know(http, blocked=[])
    assert call(http, "sendMessage", chat_id=1, text="x")["ok"]
    assert refusal(http, "sendMessage", chat_id=2, text="x")[0] == 403


def test_a_picture_is_uploaded_once_and_used_again(http: httpx.Client) -> None:
    upload = http.post(
        f"{BOT}/sendPhoto",
        data={"chat_id": ANN, "caption": "<i>7 days</i>", "parse_mode": "HTML"},
        files={"photo": ("card.png", b"p" * 300_000, "image/png")},
    ).json()["result"]
    assert upload["caption"] == "7 days"
    assert upload["photo"][0]["file_size"] == 300_000
    file_id = upload["photo"][-1]["file_id"]
    again = call(http, "sendPhoto", chat_id=BOB, photo=file_id)
    assert again["result"]["photo"] == upload["photo"]
    first, second = sent(http)
    assert (first["caption"], first["photo_size"]) == ("<i>7 days</i>", 300_000)
    assert second["photo"] == file_id
    wrong = {
        "wrong file identifier/HTTP URL specified": {"photo": "nonsense"},
        "there is no photo in the request": {},
        "message caption is too long": {"photo": file_id, "caption": "👋" * 513},
    }
    for said, args in wrong.items():
        refused = refusal(http, "sendPhoto", chat_id=ANN, **args)
        assert refused == (400, f"Bad Request: {said}")
    assert call(http, "sendPhoto", chat_id=ANN, photo=file_id, caption="👋" * 512)["ok"]
    nothing = {"photo": ("card.png", b"", "image/png")}
    refused = http.post(f"{BOT}/sendPhoto", data={"chat_id": ANN}, files=nothing).json()
    assert refused["description"] == "Bad Request: file must be non-empty"


def test_members_are_what_they_are(group: httpx.Client) -> None:
    everyone = {ANN: "member", OWNER: "creator", ADMIN: "administrator", EVE: "kicked", BOB: "left"}
    assert {person: status(group, person) for person in everyone} == everyone
    assert list(on_group(group, "getChatMember", EVE)) == ["user", "status", "until_date"]
    know(group, not_found=[404])
    assert on_group(group, "getChatMember", 404) == "PARTICIPANT_ID_INVALID"
    assert on_group(group, "getChatMember", 0) == "invalid user_id specified"
    me = on_group(group, "getChatMember", 123456789)
    assert (me["status"], me["can_restrict_members"], me["can_invite_users"]) == (
        "administrator",
        True,
        True,
    )
    know(group, group={"bot": {"can_restrict_members": False}})
    assert on_group(group, "getChatMember", 123456789)["can_restrict_members"] is False
    assert call(group, "getChat", chat_id=GROUP)["result"]["type"] == "supergroup"


def test_ban_and_unban_remove_someone_who_may_return(group: httpx.Client) -> None:
    assert on_group(group, "banChatMember", ANN) is True
    assert status(group, ANN) == "kicked"
    assert on_group(group, "unbanChatMember", ANN, only_if_banned=True) is True
    assert status(group, ANN) == "left"
    know(group, group={"members": {ANN: "member"}})
    assert on_group(group, "unbanChatMember", ANN, only_if_banned=True) is True
    assert status(group, ANN) == "member"
    assert on_group(group, "unbanChatMember", ANN) is True
    assert status(group, ANN) == "left"
    soon, later = int(time.time()) + 5, int(time.time()) + 3600
    on_group(group, "banChatMember", BOB, until_date=soon)
    assert on_group(group, "getChatMember", BOB)["until_date"] == 0
    on_group(group, "banChatMember", BOB, until_date=later)
    assert on_group(group, "getChatMember", BOB)["until_date"] == later


def test_not_everyone_can_be_banned(group: httpx.Client) -> None:
    know(group, not_found=[404])
    assert on_group(group, "banChatMember", OWNER) == "can't remove chat owner"
    assert on_group(group, "banChatMember", ADMIN) == "user is an administrator of the chat"
    assert on_group(group, "banChatMember", 123456789) == "can't restrict self"
    assert on_group(group, "banChatMember", 404) == "PARTICIPANT_ID_INVALID"
    private = refusal(group, "unbanChatMember", chat_id=ANN, user_id=BOB)
    assert private[1].endswith("method is available for supergroup and channel chats only")
    know(group, group={"bot": {"can_restrict_members": False}})
    no_rights = "not enough rights to restrict/unrestrict chat member"
    assert on_group(group, "banChatMember", ANN) == no_rights
    assert status(group, ANN) == "member"
    for bot, said in (("left", "is not a member of"), ("kicked", "was kicked from")):
        know(group, group={"bot": {"status": bot}})
        refused = refusal(group, "banChatMember", chat_id=GROUP, user_id=ANN)
        assert refused == (403, f"Forbidden: bot {said} the supergroup chat")


def test_a_link_that_asks_lets_in_only_those_approved(group: httpx.Client) -> None:
    made = call(
        group, "createChatInviteLink", chat_id=GROUP, name="order 17", creates_join_request=True
    )["result"]
    assert list(made) == [
        "invite_link",
        "name",
        "creator",
        "creates_join_request",
        "is_primary",
        "is_revoked",
    ]
    assert join(group, BOB, made["invite_link"]) == "requested"
    assert join(group, EVE, made["invite_link"]) == "banned"
    assert join(group, ANN, made["invite_link"]) == "already-member"
    assert group.get("/_sandbox/telegram").json()["join_requests"] == [BOB]
    assert on_group(group, "approveChatJoinRequest", BOB) is True
    assert status(group, BOB) == "member"
    assert on_group(group, "approveChatJoinRequest", BOB) == "USER_ALREADY_PARTICIPANT"
    assert on_group(group, "declineChatJoinRequest", 16) == "HIDE_REQUESTER_MISSING"
    know(group, not_found=[404], join_requests=[16])
    assert on_group(group, "approveChatJoinRequest", 404) == "USER_ID_INVALID"
    assert on_group(group, "declineChatJoinRequest", 16) is True
    assert on_group(group, "declineChatJoinRequest", 16) == "HIDE_REQUESTER_MISSING"
    revoked = call(group, "revokeChatInviteLink", chat_id=GROUP, invite_link=made["invite_link"])[
        "result"
    ]
    assert revoked == {**made, "is_revoked": True}
    assert join(group, 17, made["invite_link"]) == "expired"


def join(http: httpx.Client, person: int, link: str) -> str:
    spec = {"user_id": person, "invite_link": link}
    return str(http.post("/_sandbox/telegram/join", json=spec).json()["outcome"])


def test_the_limit_of_a_link_counts_those_present(group: httpx.Client) -> None:
    made = call(group, "createChatInviteLink", chat_id=GROUP, member_limit=1)["result"]
    assert made["member_limit"] == 1
    outcomes = [join(group, person, made["invite_link"]) for person in (BOB, 17)]
    assert outcomes == ["joined", "expired"]
    on_group(group, "unbanChatMember", BOB)
    assert join(group, 17, made["invite_link"]) == "joined"
    clamped = call(group, "createChatInviteLink", chat_id=GROUP, member_limit=-3)["result"]
    assert "member_limit" not in clamped
    both = {"member_limit": 1, "creates_join_request": True}
    said = "member limit can't be specified for links requiring administrator approval"
    assert refusal(group, "createChatInviteLink", chat_id=GROUP, **both)[1].endswith(said)
    know(group, group={"bot": {"can_invite_users": False}})
    refused = refusal(group, "createChatInviteLink", chat_id=GROUP)
    assert refused[1] == "Bad Request: not enough rights to manage chat invite link"


def test_a_group_moves(http: httpx.Client) -> None:
    know(http, group={"id": -77, "type": "group"})
    assert call(http, "sendMessage", chat_id=-77, text="x")["ok"]
    refused = refusal(http, "unbanChatMember", chat_id=-77, user_id=ANN)
    assert refused[1].endswith("method is available for supergroup and channel chats only")
    know(http, migrate={"-77": GROUP})
    assert call(http, "sendMessage", chat_id=-77, text="x") == {
        "ok": False,
        "error_code": 400,
        "description": "Bad Request: group chat was upgraded to a supergroup chat",
        "parameters": {"migrate_to_chat_id": GROUP},
    }
    assert call(http, "sendMessage", chat_id=GROUP, text="x")["ok"]


def test_without_limits_nothing_floods(http: httpx.Client) -> None:
    assert all(call(http, "sendMessage", chat_id=ANN, text="x")["ok"] for _ in range(40))


def test_with_limits_too_much_is_refused_and_not_sent() -> None:
    now = [1_800_000_000.0]
    state = SandboxState(clock=lambda: now[0])
    with running_sandbox(state) as url, httpx.Client(base_url=url) as http:
        limits = {"per_second": 30, "per_chat_per_second": 1, "per_group_per_minute": 2}
        know(http, limits=limits, group={"id": GROUP})
        assert call(http, "sendMessage", chat_id=ANN, text="x")["ok"]
        answer = http.post(f"{BOT}/sendMessage", json={"chat_id": ANN, "text": "x"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert answer.json() == {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 1",
            "parameters": {"retry_after": 1},
        }
        taken = [call(http, "sendMessage", chat_id=100 + n, text="x")["ok"] for n in range(35)]
        assert taken == [True] * 29 + [False] * 6
        assert [entry["ok"] for entry in sent(http)].count(True) == 30
        for expected in (None, None, 429):
            now[0] += 1
            told = call(http, "sendMessage", chat_id=GROUP, text="x")
            assert told.get("error_code") == expected
        assert told["parameters"] == {"retry_after": 58}
        now[0] += 58
        assert call(http, "sendMessage", chat_id=GROUP, text="x")["ok"]
        codes = []
        for step in (5.0, 5.0, 0.5, 0.6):
            now[0] += step
            codes.append(call(http, "sendMessage", chat_id=ANN, text="x").get("error_code"))
        assert codes == [None, None, 429, None]
        know(http, limits=None)
        assert call(http, "sendMessage", chat_id=GROUP, text="x")["ok"]


class SlowLimits(dict[str, int]):
    """Limits that take their time, so that two messages counted at once would both pass."""

    def __getitem__(self, key: str) -> int:
        limit = super().__getitem__(key)
        time.sleep(0.001)
        return limit


def test_many_at_once_are_counted_one_by_one() -> None:
    state = SandboxState(clock=lambda: 1_800_000_000.0)
    with running_sandbox(state) as url, httpx.Client(base_url=url) as http:
        state.telegram.limits = SlowLimits(per_second=100)

        def send(n: int) -> int:
            told = call(http, "sendMessage", chat_id=n % 7 + 1, text=str(n))
            return int(told["result"]["message_id"]) if told["ok"] else 0

        with ThreadPoolExecutor(16) as pool:
            ids = list(pool.map(send, range(300)))
        assert sorted(ids) == [0] * 200 + list(range(1, 101))
        assert {int(entry["text"]) for entry in sent(http)} == set(range(300))
