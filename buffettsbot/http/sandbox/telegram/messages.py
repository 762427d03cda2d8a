"""Bot API methods that send and look: texts, pictures, chats, and the bot itself."""

import re
import secrets
from collections.abc import Callable
from typing import Any

from buffettsbot.http.sandbox.telegram import text as entities
from buffettsbot.http.sandbox.telegram.calls import (
    Args,
    Body,
    TelegramError,
    bad_request,
    bot_user,
    chat_body,
    chat_id,
    forbidden,
    may_write,
)
from buffettsbot.http.sandbox.telegram.world import Telegram

BOT_FLAGS = (
    "can_read_all_group_messages", "supports_inline_queries", "supports_guest_queries",
    "can_connect_to_business", "has_main_web_app", "has_topics_enabled",
    "allows_users_to_create_topics", "can_manage_bots",
)  # fmt: skip
ACTIONS = (
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice",
    "upload_document", "choose_sticker", "find_location", "record_video_note", "upload_video_note",
)  # fmt: skip
BIGGEST_PHOTO = 10 * 1024 * 1024


def get_me(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Say who the bot is."""
    flags = {"can_join_groups": True, **dict.fromkeys(BOT_FLAGS, False)}
    return {**bot_user(world, bot_id), **flags}


def get_chat(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Describe a chat; it works for people who cannot be written to."""
    return chat_body(world, chat_id(world, args, write=False))


def send_chat_action(world: Telegram, args: Args, bot_id: int, now: float) -> bool:
    """Show that the bot is busy; the cheapest way to ask whether someone can be written to."""
    chat = chat_id(world, args)
    may_write(world, chat)
    if args.text("action").lower() not in ACTIONS:
        raise bad_request("wrong parameter action in request")
    return True


def send_message(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Send a text."""
    chat = chat_id(world, args)
    text = args.text("text")
    if not text:
        raise bad_request("message text is empty")
    shown = _shown(text, args)
    if not shown.strip():
        raise bad_request("text must be non-empty")
    if entities.utf16_length(shown) > 4096:
        raise bad_request("message is too long")
    return _send(world, chat, bot_id, now, {"text": shown.strip()})


def send_photo(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Send a picture: an upload, a file_id that was answered before, or a URL."""
    chat = chat_id(world, args)
    caption = _shown(args.text("caption"), args)
    if entities.utf16_length(caption) > 1024:
        raise bad_request("message caption is too long")
    content = {"photo": [_photo(world, args)]}
    return _send(world, chat, bot_id, now, {**content, **({"caption": caption} if caption else {})})


def _shown(text: str, args: Args) -> str:
    mode = args.text("parse_mode").lower()
    if mode not in entities.PARSE_MODES:
        raise bad_request("unsupported parse_mode")
    try:
        return entities.plain(text, mode)
    except entities.BadEntities as error:
        raise bad_request(f"can't parse entities: {error}") from None


def _photo(world: Telegram, args: Args) -> Body:
    """Return the stored picture; an upload gets a file_id that can be used again."""
    photo = args.text("photo")
    name = photo.removeprefix("attach://") if photo.startswith("attach://") else "photo"
    size = args.files.get(name)
    if size is None and not photo:
        raise bad_request("there is no photo in the request")
    if size is None and photo not in world.files and not re.match("https?://", photo):
        raise bad_request("wrong file identifier/HTTP URL specified")
    if size == 0:
        raise bad_request("file must be non-empty")
    if size is not None and size > BIGGEST_PHOTO:
        raise TelegramError(413, "Request Entity Too Large")
    file_id = photo
    if photo not in world.files:
        file_id = f"AgACAgIAAxkB{secrets.token_urlsafe(24)}"
        world.files[file_id] = size or 1
    stored: Body = {"file_id": file_id, "file_unique_id": f"AQAD{file_id[-12:]}"}
    return {**stored, "file_size": world.files[file_id], "width": 1280, "height": 720}


def _send(world: Telegram, chat: int, bot_id: int, now: float, content: Body) -> Body:
    """Deliver what has been checked. Raise for those who do not take it, and for a flood."""
    if chat == bot_id:
        raise forbidden("bots can't send messages to bots")
    may_write(world, chat)
    wait = world.flooded(chat, now)
    if wait:
        raise TelegramError(429, f"Too Many Requests: retry after {wait}", retry_after=wait)
    world.messages += 1
    message = {"message_id": world.messages, "from": bot_user(world, bot_id)}
    return {**message, "chat": chat_body(world, chat), "date": int(now), **content}


METHODS: dict[str, Callable[[Telegram, Args, int, float], Any]] = {
    "getMe": get_me,
    "getChat": get_chat,
    "sendChatAction": send_chat_action,
    "sendMessage": send_message,
    "sendPhoto": send_photo,
}
