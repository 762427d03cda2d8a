"""What the sandbox's Telegram knows: bot, people, one group, its links, and what was sent."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.spec import ControlError, Spec

Body = dict[str, Any]

STATUSES = ("creator", "administrator", "member", "restricted", "left", "kicked")
PRESENT = ("creator", "administrator", "member", "restricted")
PEOPLE = ("blocked", "deactivated", "not_found", "never_started", "join_requests")
RIGHTS = ("can_invite_users", "can_restrict_members")
SPANS = {"per_second": 1.0, "per_chat_per_second": 1.0, "per_group_per_minute": 60.0}


@dataclass
class Group:
    """The private group, and what the bot may do there."""

    id: int
    title: str = "The community"
    type: str = "supergroup"
    members: dict[int, str] = field(default_factory=dict)
    until: dict[int, int] = field(default_factory=dict)
    bot_status: str = "administrator"
    can_invite_users: bool = True
    can_restrict_members: bool = True

    def merge(self, spec: Spec) -> None:
        """Given some settings, change those and leave the rest."""
        self.title = read.field(spec, "title", self.title)
        kinds = ("group", "supergroup", "channel")
        self.type = read.choice(spec.get("type", self.type), kinds, "type")
        for person, status in read.fields(spec, "members").items():
            status = "left" if status is None else read.choice(status, STATUSES, "A status")
            self.members[read.whole(person, "A member")] = status
        bot = read.fields(spec, "bot")
        read.only_known(bot, {"status", *RIGHTS}, "bot")
        self.bot_status = read.choice(bot.get("status", self.bot_status), STATUSES, "status")
        for right, granted in self.rights().items():
            setattr(self, right, read.field(bot, right, granted))

    def may(self, right: str) -> bool:
        """Say whether the bot has this administrator's right."""
        return self.bot_status == "administrator" and self.rights()[right]

    def rights(self) -> dict[str, bool]:
        """Return the bot's rights, as far as they can be taken from it."""
        return {right: getattr(self, right) for right in RIGHTS}

    def has(self, person: int) -> bool:
        """Say whether someone is in the group."""
        return self.members.get(person) in PRESENT


@dataclass
class Link:
    """An invitation."""

    url: str
    name: str = ""
    expire_date: int = 0
    member_limit: int = 0
    creates_join_request: bool = False
    is_revoked: bool = False
    joined: set[int] = field(default_factory=set)


@dataclass
class Telegram:
    """One bot's world."""

    token: str | None = None
    revoked: bool = False
    bot_username: str = "gate_test_bot"
    users: dict[int, Spec] = field(default_factory=dict)
    blocked: set[int] = field(default_factory=set)
    deactivated: set[int] = field(default_factory=set)
    not_found: set[int] = field(default_factory=set)
    never_started: set[int] = field(default_factory=set)
    join_requests: set[int] = field(default_factory=set)
    group: Group | None = None
    migrate: dict[int, int] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    recent: dict[str, deque[float]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    messages: int = 0

    def flooded(self, chat_id: int, now: float) -> int:
        """Count one message; given too many, count nothing and return the seconds to wait."""
        windows = {"per_second": "all", "per_chat_per_second": f"chat {chat_id}"}
        if chat_id < 0:
            windows["per_group_per_minute"] = f"group {chat_id}"
        used, wait = [], 0.0
        for limit, name in windows.items():
            if limit not in self.limits:
                continue
            recent = self.recent.setdefault(name, deque())
            used.append(recent)
            while recent and recent[0] <= now - SPANS[limit]:
                recent.popleft()
            if len(recent) >= self.limits[limit]:
                wait = max(wait, recent[0] + SPANS[limit] - now)
        if wait <= 0:
            for recent in used:
                recent.append(now)
        return math.ceil(wait)

    def user(self, person: int) -> Body:
        """Return a person as a user."""
        return {"id": person, "is_bot": False, **self._profile(person)}

    def chat(self, chat: int) -> Body:
        """Return a chat the way messages name it."""
        if chat < 0 and self.group is not None:
            return {"id": chat, "title": self.group.title, "type": self.group.type}
        profile = self._profile(chat)
        profile.pop("language_code", None)
        return {"id": chat, **profile, "type": "private"}

    def _profile(self, person: int) -> Body:
        profile = {"first_name": f"User {person}", **self.users.get(person, {})}
        keys = ("first_name", "last_name", "username", "language_code")
        return {key: profile[key] for key in keys if profile.get(key) is not None}

    def merge(self, spec: Spec) -> None:
        """Given some settings, change those and leave the rest."""
        known = {"token", "revoked", "bot_username", "users", "group", "migrate", "limits", *PEOPLE}
        read.only_known(spec, known, "Telegram")
        if "token" in spec:
            self.token = None if spec["token"] is None else read.field(spec, "token", "")
        self.revoked = read.field(spec, "revoked", self.revoked)
        self.bot_username = read.field(spec, "bot_username", self.bot_username)
        for key in PEOPLE:
            if key in spec:
                people = {read.whole(n, f"An id in {key}") for n in read.items(spec, key)}
                setattr(self, key, people)
        for chat_id, profile in read.fields(spec, "users").items():
            self.users[read.whole(chat_id, "A user")] = read.typed(profile, dict, "A user")
        if "group" in spec:
            self._merge_group(spec["group"])
        if "limits" in spec:
            self.limits, self.recent = _limits(spec["limits"]), {}
        for old, new in read.fields(spec, "migrate").items():
            self._migrate(read.whole(old, "A group"), read.whole(new, "A group"))

    def _merge_group(self, value: object) -> None:
        if value is None:
            self.group = None
            return
        spec = read.typed(value, dict, "group")
        read.only_known(spec, {"id", "title", "type", "members", "bot"}, "group")
        if "id" in spec and (self.group is None or self.group.id != spec["id"]):
            self.group = Group(read.whole(spec["id"], "The group's id"))
        if self.group is None:
            raise ControlError("A group needs its id.")
        self.group.merge(spec)

    def _migrate(self, old: int, new: int) -> None:
        self.migrate[old] = new
        if self.group is not None and self.group.id == old:
            self.group.id, self.group.type = new, "supergroup"


def _limits(value: object) -> dict[str, int]:
    """Read the flood limits; null lifts them all."""
    spec = {} if value is None else read.typed(value, dict, "limits")
    read.only_known(spec, SPANS, "limits")
    return {key: read.whole(each, key) for key, each in spec.items() if each is not None}


def describe(telegram: Telegram) -> Spec:
    """Given the world, return it the way a developer set it."""
    group = telegram.group
    return {
        "group": group
        and {
            "id": group.id,
            "type": group.type,
            "members": {str(person): status for person, status in group.members.items()},
            "bot": {"status": group.bot_status, **group.rights()},
        },
        "links": [
            {"invite_link": link.url, "is_revoked": link.is_revoked, "joined": sorted(link.joined)}
            for link in telegram.links.values()
        ],
        "migrate": {str(old): new for old, new in telegram.migrate.items()},
        "limits": telegram.limits,
        **{key: sorted(getattr(telegram, key)) for key in PEOPLE},
    }
