"""What every Bot API method is given, a call: its arguments, its refusals, and access to a chat."""

import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import bottle

from buffettsbot.http.sandbox.telegram.world import Body, Group, Telegram

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


@dataclass(frozen=True)
class Args:
    """The arguments of one call, read as leniently as Telegram reads them; of files, the sizes."""

    raw: Body
    files: dict[str, int] = field(default_factory=dict)

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


@dataclass(frozen=True)
class BotCall:
    """One call: what is asked, the world it meets, the bot that asks, and when (s since 1970)."""

    args: Args
    world: Telegram
    bot_id: int
    now: float

    def chat(self, *, write: bool = True) -> int:
        """Return the chat the call is about. Raise unless the bot may go there."""
        text, world = self.args.text("chat_id"), self.world
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
        group = world.group
        if group is None or group.id != chat:
            raise bad_request("chat not found")
        if group.bot_status == "kicked":
            raise forbidden(f"bot was kicked from the {group.type} chat")
        if group.bot_status == "left":
            raise forbidden(f"bot is not a member of the {group.type} chat")
        return chat

    def group(self) -> Group:
        """Return the group the call is about. Raise for a person."""
        if self.chat() >= 0 or self.world.group is None:
            raise bad_request("method is available for supergroup and channel chats only")
        return self.world.group

    def person(self, unknown: str = "PARTICIPANT_ID_INVALID") -> int:
        """Return the person the call is about; `unknown` is what is said of a stranger."""
        person = self.args.integer("user_id")
        if person <= 0:
            raise bad_request("invalid user_id specified")
        if person in self.world.not_found:
            raise bad_request(unknown)
        return person

    def check_writable(self, chat: int) -> None:
        """Raise if this person cannot be written to."""
        if chat in self.world.deactivated:
            raise forbidden("user is deactivated")
        if chat in self.world.blocked:
            raise forbidden("bot was blocked by the user")
        if chat in self.world.never_started:
            raise forbidden("bot can't initiate conversation with a user")

    def bot(self) -> Body:
        """Return the bot as a user."""
        name = {"id": self.bot_id, "is_bot": True, "first_name": "Gate"}
        return {**name, "username": self.world.bot_username}
