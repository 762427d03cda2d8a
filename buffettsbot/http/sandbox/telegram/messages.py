"""Bot API methods that send and look: texts, pictures, chats, and the bot itself."""

import re
import secrets

from buffettsbot.http.sandbox.replies import RECORDED
from buffettsbot.http.sandbox.telegram import text as entities
from buffettsbot.http.sandbox.telegram.calls import (
    Args,
    BotCall,
    TelegramError,
    bad_request,
    forbidden,
)
from buffettsbot.http.sandbox.telegram.world import Body

ACTIONS = (
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice",
    "upload_document", "choose_sticker", "find_location", "record_video_note", "upload_video_note",
)  # fmt: skip
BIGGEST_PHOTO = 10 * 1024 * 1024


def get_me(call: BotCall) -> Body:
    """Say who the bot is."""
    return {**call.bot(), **RECORDED["bot"]}


def get_chat(call: BotCall) -> Body:
    """Describe a chat; it works for people who cannot be written to."""
    return call.world.chat(call.chat(write=False))


def send_chat_action(call: BotCall) -> bool:
    """Show that the bot is busy; the cheapest way to ask whether someone can be written to."""
    call.check_writable(call.chat())
    if call.args.text("action").lower() not in ACTIONS:
        raise bad_request("wrong parameter action in request")
    return True


def send_message(call: BotCall) -> Body:
    """Send a text."""
    chat, text = call.chat(), call.args.text("text")
    if not text:
        raise bad_request("message text is empty")
    shown = _shown(text, call.args)
    if not shown.strip():
        raise bad_request("text must be non-empty")
    if entities.utf16_length(shown) > 4096:
        raise bad_request("message is too long")
    return _send(call, chat, {"text": shown.strip()})


def send_photo(call: BotCall) -> Body:
    """Send a picture: an upload, a file_id that was answered before, or a URL."""
    chat = call.chat()
    caption = _shown(call.args.text("caption"), call.args)
    if entities.utf16_length(caption) > 1024:
        raise bad_request("message caption is too long")
    content: Body = {"photo": [_photo(call)]}
    return _send(call, chat, {**content, "caption": caption} if caption else content)


def _shown(text: str, args: Args) -> str:
    mode = args.text("parse_mode").lower()
    if mode not in entities.PARSE_MODES:
        raise bad_request("unsupported parse_mode")
    try:
        return entities.plain_html(text) if mode == "html" else text
    except entities.BadEntities as error:
        raise bad_request(f"can't parse entities: {error}") from None


def _photo(call: BotCall) -> Body:
    """Return the stored picture; an upload gets a file_id that can be used again."""
    files, photo = call.world.files, call.args.text("photo")
    name = photo.removeprefix("attach://") if photo.startswith("attach://") else "photo"
    size = call.args.files.get(name)
    if size is None and not photo:
        raise bad_request("there is no photo in the request")
    if size is None and photo not in files and not re.match("https?://", photo):
        raise bad_request("wrong file identifier/HTTP URL specified")
    if size == 0:
        raise bad_request("file must be non-empty")
    if size is not None and size > BIGGEST_PHOTO:
        raise TelegramError(413, "Request Entity Too Large")
    file_id = photo
    if photo not in files:
        file_id = f"AgACAgIAAxkB{secrets.token_urlsafe(24)}"
        files[file_id] = size or 1
    stored: Body = {"file_id": file_id, "file_unique_id": f"AQAD{file_id[-12:]}"}
    return {**stored, "file_size": files[file_id], "width": 1280, "height": 720}


def _send(call: BotCall, chat: int, content: Body) -> Body:
    """Deliver what has been checked. Raise for those who do not take it, and for a flood."""
    world = call.world
    if chat == call.bot_id:
        raise forbidden("bots can't send messages to bots")
    call.check_writable(chat)
    wait = world.flooded(chat, call.now)
    if wait:
        raise TelegramError(429, f"Too Many Requests: retry after {wait}", retry_after=wait)
    world.messages += 1
    message = {"message_id": world.messages, "from": call.bot()}
    return {**message, "chat": world.chat(chat), "date": int(call.now), **content}
