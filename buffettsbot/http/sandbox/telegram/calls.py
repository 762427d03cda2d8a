"""What every Bot API method needs: its arguments, its refusals, and access to a chat."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import bottle

from buffettsbot.http.sandbox.telegram.world import Group, Telegram

Body = dict[str, Any]
BIGGEST = 2**52


class TelegramError(Exception):
    """Telegram says no."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters

    def body(self) -> Body:
        """Return the refusal, with its keys in the order in which Telegram writes them."""
        body: Body = {"ok": False, "error_code": self.code, "description": self.description}
        return {**body, "parameters": self.parameters} if self.parameters else body


def bad_request(text: str, **parameters: int) -> TelegramError:
    """Return the refusal of a wrong call."""
    return TelegramError(400, f"Bad Request: {text}", **parameters)


def forbidden(text: str) -> TelegramError:
    """Return the refusal of a call that may not be made."""
    return TelegramError(403, f"Forbidden: {text}")


class Args:
    """The arguments of one call, read as leniently as Telegram reads them."""

    def __init__(self, raw: Body, files: dict[str, int] | None = None) -> None:
        self.raw = raw
        self.files = files or {}

    def text(self, name: str) -> str:
        """Return an argument as text; one that is missing is empty."""
        value = self.raw.get(name)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def integer(self, name: str, lowest: int = -BIGGEST, highest: int = BIGGEST) -> int:
        """Return a number, silently clamped; what is no number reads as 0."""
        match = re.match(r"\s*(-?\d{1,30})", self.text(name), re.ASCII)
        return max(lowest, min(highest, int(match[1]) if match else 0))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return self.text(name).lower() in ("true", "yes", "1")

    def logged(self) -> Body:
        """Return the arguments for the log, ids as numbers."""
        entry = dict(self.raw)
        for name in ("chat_id", "user_id"):
            if re.fullmatch(r"-?\d{1,30}", self.text(name), re.ASCII):
                entry[name] = int(self.text(name))
        return {**entry, **{f"{name}_size": size for name, size in self.files.items()}}


def read_args() -> Args:
    """Read the arguments of the present request: query, JSON, urlencoded or multipart."""
    request = bottle.request
    raw: Body = dict(parse_qsl(request.query_string, keep_blank_values=True))
    kind = request.content_type.split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = {name: len(upload.file.read()) for name, upload in request.files.items()}
        forms = {n: v for n, v in request.POST.items() if isinstance(v, str)}
        return Args({**raw, **forms}, files)
    try:
        body = request.body.read().decode()
        if kind != "application/json":
            form = parse_qsl(body, keep_blank_values=True, errors="strict")
            return Args({**raw, **dict(form)})
        parsed = json.loads(body or "{}")
    except UnicodeDecodeError:
        raise bad_request("text must be encoded in UTF-8") from None
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise bad_request("can't parse JSON object")
    return Args({**raw, **parsed})


def chat_id(world: Telegram, args: Args, *, write: bool = True) -> int:
    """Return the chat a call is about. Raise unless the bot may go there."""
    text = args.text("chat_id")
    if not text:
        raise bad_request("chat_id is empty")
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        raise bad_request("chat not found")
    chat = int(text)
    if chat in world.migrate:
        if not write:
            return world.migrate[chat]
        description = "group chat was upgraded to a supergroup chat"
        raise bad_request(description, migrate_to_chat_id=world.migrate[chat])
    if chat >= 0:
        if chat in world.not_found:
            raise bad_request("chat not found")
        return chat
    _enter(world.group, chat)
    return chat


def _enter(group: Group | None, chat: int) -> None:
    if group is None or group.id != chat:
        raise bad_request("chat not found")
    if group.bot_status == "kicked":
        raise forbidden(f"bot was kicked from the {group.type} chat")
    if group.bot_status == "left":
        raise forbidden(f"bot is not a member of the {group.type} chat")


def the_group(world: Telegram, args: Args, *, write: bool = True) -> Group:
    """Return the group a call is about. Raise for a person."""
    chat = chat_id(world, args, write=write)
    if chat >= 0 or world.group is None:
        raise bad_request("method is available for supergroup and channel chats only")
    return world.group


def person_id(world: Telegram, args: Args, unknown: str) -> int:
    """Return the person a call is about; `unknown` is what is said of a stranger."""
    person = args.integer("user_id")
    if person <= 0:
        raise bad_request("invalid user_id specified")
    if person in world.not_found:
        raise bad_request(unknown)
    return person


def may_write(world: Telegram, chat: int) -> None:
    """Raise if this person cannot be written to."""
    if chat in world.deactivated:
        raise forbidden("user is deactivated")
    if chat in world.blocked:
        raise forbidden("bot was blocked by the user")
    if chat in world.never_started:
        raise forbidden("bot can't initiate conversation with a user")


def bot_user(world: Telegram, bot_id: int) -> Body:
    """Return the bot as a user."""
    name = {"id": bot_id, "is_bot": True, "first_name": "Gate"}
    return {**name, "username": world.bot_username}


def _profile(world: Telegram, person: int) -> Body:
    profile = {"first_name": f"User {person}", **world.users.get(person, {})}
    keys = ("first_name", "last_name", "username", "language_code")
    return {key: profile[key] for key in keys if profile.get(key) is not None}


def user(world: Telegram, person: int) -> Body:
    """Return a person as a user."""
    return {"id": person, "is_bot": False, **_profile(world, person)}


def chat_body(world: Telegram, chat: int) -> Body:
    """Return a chat the way messages name it."""
    if chat < 0 and world.group is not None:
        return {"id": chat, "title": world.group.title, "type": world.group.type}
    profile = _profile(world, chat)
    profile.pop("language_code", None)
    return {"id": chat, **profile, "type": "private"}
