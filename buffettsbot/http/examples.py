"""What the API's description says of each route beside its docstring, by the route's name.

An answer is shown by an example of each form that it may have; the forms are known from these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.messages.words import shipped_words
from buffettsbot.http import shapes
from buffettsbot.http.answers import WORDS
from buffettsbot.http.bodies import NO_JSON, NOT_CALLED_JSON, TOO_LARGE
from buffettsbot.http.bodies import SENTENCES as WHY
from buffettsbot.http.guard import UNAUTHORIZED


@dataclass(frozen=True)
class Told:
    """An answer: what it means, its examples by name, and its headers in OpenAPI's form."""

    meaning: str
    examples: Mapping[str, Any]
    headers: Mapping[str, Any] = field(default_factory=dict)


RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
RETRY_AFTER_UNLESS_NULL = {
    "Retry-After": {
        "description": "As `retry_after`; absent where that is null.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
BAD_BODY = "Fields are wrong, each named with why; or the body is no JSON object and no form."
UNREADABLE = shapes.Refusal(status=400, message=NO_JSON)
MISSING = [WHY["missing"]]

ANN, BEN = 7000000001, 7000000002
HASH = "e046c2bb63fa65a4a3d94228fd8fd87e1fb0c2ffa3780ef722846c532c326b0a"
START, END = "22/11/2026 21:37:22", "22/12/2026 21:37:22"
ENGLISH = shipped_words("en")
USER = shapes.User(chat_id=ANN, telegram_username="ann", first_name="Ann", last_name="Lee")
MEMBERSHIP = shapes.Subscription(
    customer="ann", plan="1 month", price=50, transaction_hash=HASH, start_date=START, end_date=END
)
BOUGHT = shapes.SubscriptionCreated(
    customer=ANN, plan=1, transaction_hash=HASH, start_date=START, end_date=END
)
UNCONFIRMED = shapes.ClaimPending(
    reason=Reason.UNCONFIRMED,
    message=ENGLISH.reason(Reason.UNCONFIRMED),
    retry_after=30,
    amount="50",
    price=50,
)
UNDERPAID = shapes.ClaimRefused(
    reason=Reason.UNDERPAID,
    detail=ENGLISH.reason(Reason.UNDERPAID, amount="49", price=50),
    amount="49",
    price=50,
)
MONTH, YEAR = (
    shapes.Plan(id=1, period="1 month", price=50),
    shapes.Plan(id=2, period="1 year", price=500),
)
LET_IN, TURNED_AWAY = shapes.JoinAnswer(approved=True), shapes.JoinAnswer(approved=False)
KEPT_OUT = shapes.Refusal(
    status=409,
    message="They have a membership, but Telegram does not let them in (Bad Request: "
    "CHANNELS_TOO_MUCH).",
)
OVERTAKEN = shapes.Refusal(
    status=409, message="This hash is being claimed by others at the same time. Try again."
)
AWAY = shapes.Unavailable(
    message="The database does not answer. Check that it runs and that BUFFETTSBOT_DATABASE_URL "
    "is right, then try again.",
    retry_after=5,
)
PAUSE = shapes.Unavailable(message="Telegram wants a pause of 7 s.", retry_after=7)

BODIES: dict[str, dict[str, Any]] = {
    "add_user": {
        "usual": USER,
        "without a username": {"chat_id": BEN, "telegram_username": None, "first_name": "Ben"},
    },
    "claim_subscription": {
        "by id": {"chat_id": ANN, "plan": "1 month", "transaction_hash": HASH},
        "by name": {"telegram_username": "ann", "plan": "1 month", "transaction_hash": HASH},
    },
    "answer_join_request": {"usual": {"chat_id": ANN}},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "show_subscription": {
        "chat_id": {
            "description": "The person's Telegram id.",
            "schema": {"type": "integer", "minimum": 1},
            "example": ANN,
        },
        "telegram_username": {
            "description": "The person's name, in any case; a leading `@` and double quotes around "
            "it are understood.",
            "schema": {"type": "string"},
            "example": "ann",
        },
    }
}
ANSWERS = {
    "add_user": {
        200: Told(
            "Known already; the profile as it now stands.",
            {"updated": shapes.UserSaved(status=200, data=USER)},
        ),
        201: Told("Registered.", {"created": shapes.UserSaved(status=201, data=USER)}),
        400: Told(
            BAD_BODY,
            {
                "missing": {"telegram_username": MISSING},
                "wrong type": {"chat_id": [WHY["no_integer"]]},
                "no JSON": UNREADABLE,
            },
        ),
    },
    "show_subscription": {
        200: Told("They are in.", {"running": MEMBERSHIP}),
        400: Told("Nobody was named.", {"missing": {"telegram_username": MISSING}}),
        404: Told(
            "Nobody of that name or id is registered; or they have no membership, or one that has "
            "ended.",
            {"unknown": shapes.UserNotFound(), "not in": shapes.SubscriptionNotFound()},
        ),
    },
    "claim_subscription": {
        201: Told("Accepted: the period that this payment bought.", {"accepted": BOUGHT}),
        202: Told(
            "Written down, not decided yet; it will settle by itself.",
            {"unconfirmed": UNCONFIRMED},
            RETRY_AFTER_UNLESS_NULL,
        ),
        400: Told(
            f"Refused, with a reason. {BAD_BODY}",
            {
                "underpaid": UNDERPAID,
                "already used": shapes.HashUsed(detail=ENGLISH.reason(Reason.ALREADY_USED)),
                "missing": {"transaction_hash": MISSING},
                "no JSON": UNREADABLE,
            },
        ),
        404: Told(
            "Nobody of that name or id is registered, or that plan is not on sale. Nothing was "
            "written down.",
            {"unknown": shapes.UserNotFound(), "not on sale": shapes.PlanNotFound()},
        ),
    },
    "list_plans": {200: Told("The plans on sale; possibly none.", {"two": [MONTH, YEAR]})},
    "answer_join_request": {
        200: Told("Answered, at Telegram too.", {"a member": LET_IN, "anyone else": TURNED_AWAY}),
        400: Told(BAD_BODY, {"missing": {"chat_id": MISSING}, "no JSON": UNREADABLE}),
        409: Told(
            "They have a membership, but Telegram does not let this person in; the message says "
            "why (they are in too many groups, for one).",
            {"kept out": KEPT_OUT},
        ),
        503: Told(
            "Telegram or the database does not answer just now, Telegram wants a pause, too many "
            "join requests wait for it, or the owner has to fix something first (no token or no "
            "group is set, the bot lost its rights there): the message says which. Pass the same "
            "on again after `retry_after` seconds.",
            {"a pause": PAUSE},
            RETRY_AFTER,
        ),
    },
    "show_openapi": {200: Told("An OpenAPI 3.1 document.", {"this": {"openapi": "3.1.0"}})},
    "health": {
        200: Told("All is well.", {"well": shapes.Health(status="ok", version="1.0.0")}),
        503: Told(
            "The database does not answer.",
            {"away": shapes.Health(status="unavailable", version="1.0.0")},
        ),
    },
    "show_metrics": {200: Told("Prometheus' text form, version 0.0.4.", {"a line": "up 1"})},
}

# What any request of a kind may be answered, so that no route has to say it.
COMMON = {
    401: Told(
        "A token is set, and the request did not carry it.",
        {"no token": shapes.Refusal(status=401, message=UNAUTHORIZED)},
        {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}},
    ),
    409: Told(
        "Others changed the same thing in the very same moment, again and again. Nothing was "
        "changed; send it once more.",
        {"overtaken": OVERTAKEN},
    ),
    413: Told(
        "The body is larger than 64 KiB.",
        {"too large": shapes.Refusal(status=413, message=TOO_LARGE)},
    ),
    415: Told(
        "The body is declared as neither JSON nor a form.",
        {"plain text": shapes.Refusal(status=415, message=NOT_CALLED_JSON)},
    ),
    500: Told(
        "A bug here; the service's log has the details.",
        {"a bug": shapes.Refusal(status=500, message=WORDS[500])},
    ),
    503: Told(
        "The database does not answer just now. Send the same again.",
        {"away": AWAY},
        RETRY_AFTER,
    ),
}
