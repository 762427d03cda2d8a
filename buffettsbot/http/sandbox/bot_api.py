"""The emulated Bot API: who calls, what they call, and the log of it."""

import re
from collections.abc import Callable
from typing import Any

from buffettsbot.http.sandbox.faults import answer, respond
from buffettsbot.http.sandbox.replies import Reply, dump
from buffettsbot.http.sandbox.state import Call, SandboxState
from buffettsbot.http.sandbox.telegram import invites, members, messages
from buffettsbot.http.sandbox.telegram.calls import BotCall, TelegramError, read_args
from buffettsbot.http.sandbox.telegram.world import Telegram

PATH = re.compile(r"(?P<token>[^/]*)(?:/test)?/(?P<method>[^/]*)/?")
TOKEN = re.compile(r"\d{1,20}:[A-Za-z0-9_-]+", re.ASCII)
METHODS: dict[str, Callable[[BotCall], Any]] = {
    "getMe": messages.get_me,
    "getChat": messages.get_chat,
    "sendChatAction": messages.send_chat_action,
    "sendMessage": messages.send_message,
    "sendPhoto": messages.send_photo,
    "getChatMember": members.get_chat_member,
    "banChatMember": members.ban,
    "unbanChatMember": members.unban,
    "createChatInviteLink": invites.create_link,
    "revokeChatInviteLink": invites.revoke_link,
    "approveChatJoinRequest": invites.approve,
    "declineChatJoinRequest": invites.decline,
}
NAMES = {name.lower(): name for name in METHODS}


def mount(app: Any, state: SandboxState) -> None:
    """Add the Bot API to the sandbox."""
    app.route("/bot<rest:path>", ["GET", "POST"], lambda rest: _call(state, rest))


def _call(state: SandboxState, rest: str) -> Any:
    match = PATH.fullmatch(rest)
    token, typed = match.group("token", "method") if match else ("", "")
    method = NAMES.get(typed.lower(), typed)
    try:
        args = read_args()
    except TelegramError as error:
        return respond(_refusal(error))

    def log(**outcome: Any) -> None:
        with state.lock:
            first = {"at": state.clock(), "method": method}
            state.telegram.sent.append({**first, **args.logged(), **outcome})

    def produce(now: float) -> Reply:
        with state.lock:
            try:
                bot_id = _authorized(state.telegram, token)
            except TelegramError as error:
                return _refusal(error)
            try:
                result = _perform(method, BotCall(args, state.telegram, bot_id, now))
            except TelegramError as error:
                log(ok=False, error_code=error.code, description=error.description)
                return _refusal(error)
            log(ok=True)
            return Reply(body=dump({"ok": True, "result": result}))

    def refused(fault: str, status: int | None) -> None:
        code = {"error_code": status} if status is not None and status >= 400 else {}
        log(ok=False, **code, fault=fault)

    call = Call("telegram", f"/bot***/{typed}", method, chat_id=args.text("chat_id"))
    return answer(state, call, produce, refused)


def _perform(method: str, call: BotCall) -> Any:
    if method not in METHODS:
        raise TelegramError(404, "Not Found: method not found")
    return METHODS[method](call)


def _refusal(error: TelegramError) -> Reply:
    wait = error.parameters.get("retry_after")
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return Reply(error.code, dump(error.body()), headers=headers)


def _authorized(world: Telegram, token: str) -> int:
    """Given a token, return the bot's id. Raise if it is nobody's."""
    if not TOKEN.fullmatch(token):
        raise TelegramError(404, "Not Found")
    if world.token is not None and token != world.token:
        raise TelegramError(401, "Unauthorized: invalid token specified")
    if world.revoked:
        raise TelegramError(401, "Unauthorized")
    return int(token.split(":")[0])
