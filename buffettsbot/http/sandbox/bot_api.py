"""The emulated Bot API: who calls, what they call, and the log of it."""

import re
from collections.abc import Callable
from typing import Any

import bottle

from buffettsbot.http.sandbox.faults import answer
from buffettsbot.http.sandbox.replies import Reply, dump
from buffettsbot.http.sandbox.state import Call, SandboxState
from buffettsbot.http.sandbox.telegram import invites, members, messages
from buffettsbot.http.sandbox.telegram.calls import Args, Body, TelegramError, read_args
from buffettsbot.http.sandbox.telegram.world import Telegram

PATH = re.compile(r"(?P<token>[^/]*)(?:/test)?/(?P<method>[^/]*)/?")
TOKEN = re.compile(r"\d{1,20}:[A-Za-z0-9_-]+", re.ASCII)
METHODS = {
    **messages.METHODS,
    **members.METHODS,
    **invites.METHODS,
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
        return bottle.HTTPResponse(
            dump(error.body()), error.code, {"Content-Type": "application/json"}
        )
    call = Call("telegram", f"/bot***/{typed}", method, chat_id=args.text("chat_id"))

    def log(entry: Body) -> None:
        with state.lock:
            first = {"at": state.clock(), "method": method}
            state.telegram.sent.append({**first, **args.logged(), **entry})

    def produce(now: float) -> Reply:
        with state.lock:
            return _perform(state.telegram, token, method, args, now, log)

    def refused(fault: str, status: int | None) -> None:
        code = {"error_code": status} if status is not None and status >= 400 else {}
        log({"ok": False, **code, "fault": fault})

    return answer(state, call, produce, refused)


def _perform(
    world: Telegram,
    token: str,
    method: str,
    args: Args,
    now: float,
    log: Callable[[Body], None],
) -> Reply:
    """Given a call, do it and log it, unless it is not the bot who calls."""
    try:
        bot_id = _authorized(world, token)
    except TelegramError as error:
        return Reply(error.code, dump(error.body()))
    try:
        if method not in METHODS:
            raise TelegramError(404, "Not Found: method not found")
        result = METHODS[method](world, args, bot_id, now)
    except TelegramError as error:
        log({"ok": False, "error_code": error.code, "description": error.description})
        return Reply(
            error.code, dump(error.body()), retry_after=error.parameters.get("retry_after")
        )
    log({"ok": True})
    return Reply(body=dump({"ok": True, "result": result}))


def _authorized(world: Telegram, token: str) -> int:
    """Given a token, return the bot's id. Raise if it is nobody's."""
    if not TOKEN.fullmatch(token):
        raise TelegramError(404, "Not Found")
    if world.token is not None and token != world.token:
        raise TelegramError(401, "Unauthorized: invalid token specified")
    if world.revoked:
        raise TelegramError(401, "Unauthorized")
    return int(token.split(":")[0])
