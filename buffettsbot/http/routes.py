"""The routes, as section 2 of the contract has them: what each takes, and what it may answer.

`api` serves what stands here, `openapi` describes it, and the tests hold real answers against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buffettsbot.core.chain.judge import SENTENCES, Reason
from buffettsbot.http import shapes
from buffettsbot.http.bodies import NO_JSON, Body, JoinRequest, NewClaim, NewUser
from buffettsbot.http.bodies import SENTENCES as WHY


@dataclass(frozen=True)
class Told:
    """An answer: what it means, and an example of each form that it may have, by name.

    `headers` are in OpenAPI's form.
    """

    meaning: str
    examples: Mapping[str, Any]
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """A method and a path, which is served with and without its trailing slash.

    `name` is the method of `Api` that answers, whose docstring describes the route; the `body` is
    read first and handed to it. `bodies`: examples of it; `query`: parameters, in OpenAPI's form.
    `answers` are the route's own, beside those that any request of its kind may get.
    """

    method: str
    path: str
    name: str
    tag: str
    answers: Mapping[int, Told]
    body: type[Body] | None = None
    bodies: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
RETRY_AFTER_UNLESS_NULL = {
    "Retry-After": {
        "description": "As `retry_after`; absent where that is null.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
BAD_BODY = "Fields are wrong, each named with why; or the body is no JSON object."
UNREADABLE = shapes.Refusal(status=400, message=NO_JSON)
MISSING = [WHY["missing"]]

ANN, BEN = 7000000001, 7000000002
HASH = "e046c2bb63fa65a4a3d94228fd8fd87e1fb0c2ffa3780ef722846c532c326b0a"
START, END = "22/11/2026 21:37:22", "22/12/2026 21:37:22"
USER = shapes.User(chat_id=ANN, telegram_username="ann", first_name="Ann", last_name="Lee")
MEMBERSHIP = shapes.Subscription(
    customer="ann", plan="1 month", price=50, transaction_hash=HASH, start_date=START, end_date=END
)
BOUGHT = shapes.SubscriptionCreated(
    customer=ANN, plan=1, transaction_hash=HASH, start_date=START, end_date=END
)
UNCONFIRMED = shapes.ClaimPending(
    reason=Reason.UNCONFIRMED, message=SENTENCES[Reason.UNCONFIRMED], retry_after=30
)
UNDERPAID = shapes.ClaimRefused(
    reason=Reason.UNDERPAID,
    detail="49 USDT arrived, the plan costs 50 USDT. Choose a plan it pays for, or ask an admin "
    "for help.",
)

ROUTES = (
    Route(
        "POST",
        "/api/v1/users/",
        "add_user",
        "users",
        body=NewUser,
        bodies={
            "usual": USER,
            "without a username": {"chat_id": BEN, "telegram_username": None, "first_name": "Ben"},
        },
        answers={
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
    ),
    Route(
        "GET",
        "/api/v1/subscriptions/",
        "show_subscription",
        "subscriptions",
        query={
            "chat_id": {
                "description": "The person's Telegram id.",
                "schema": {"type": "integer", "minimum": 1},
                "example": ANN,
            },
            "telegram_username": {
                "description": "The person's name, in any case; a leading `@` and double quotes "
                "around it are understood.",
                "schema": {"type": "string"},
                "example": "ann",
            },
        },
        answers={
            200: Told("They are in.", {"running": MEMBERSHIP}),
            400: Told("Nobody was named.", {"missing": {"telegram_username": MISSING}}),
            404: Told(
                "Nobody of that name or id is registered; or they have no membership, or one that "
                "has ended.",
                {"unknown": shapes.UserNotFound(), "not in": shapes.SubscriptionNotFound()},
            ),
        },
    ),
    Route(
        "POST",
        "/api/v1/subscriptions/",
        "claim_subscription",
        "subscriptions",
        body=NewClaim,
        bodies={
            "by id": {"chat_id": ANN, "plan": "1 month", "transaction_hash": HASH},
            "by name": {"telegram_username": "ann", "plan": "1 month", "transaction_hash": HASH},
        },
        answers={
            201: Told("Accepted: the period that this payment bought.", {"accepted": BOUGHT}),
            202: Told(
                "Written down, not decided yet; it will settle by itself.",
                {"unconfirmed": UNCONFIRMED},
                RETRY_AFTER_UNLESS_NULL,
            ),
            400: Told(
                "Refused, with a reason; or fields are wrong; or the body is no JSON object.",
                {
                    "underpaid": UNDERPAID,
                    "already used": shapes.HashUsed(detail=SENTENCES[Reason.ALREADY_USED]),
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
    ),
    Route(
        "GET",
        "/api/v1/plans/",
        "list_plans",
        "plans",
        answers={
            200: Told(
                "The plans on sale; possibly none.",
                {
                    "two": [
                        shapes.Plan(id=1, period="1 month", price=50),
                        shapes.Plan(id=2, period="1 year", price=500),
                    ]
                },
            )
        },
    ),
    Route(
        "POST",
        "/api/v1/join-requests/",
        "answer_join_request",
        "subscriptions",
        body=JoinRequest,
        bodies={"usual": {"chat_id": ANN}},
        answers={
            200: Told(
                "Answered, at Telegram too.",
                {
                    "a member": shapes.JoinAnswer(approved=True),
                    "anyone else": shapes.JoinAnswer(approved=False),
                },
            ),
            400: Told(BAD_BODY, {"missing": {"chat_id": MISSING}, "no JSON": UNREADABLE}),
            409: Told(
                "They have a membership, but Telegram does not let this person in; the message "
                "says why (they are in too many groups, for one).",
                {"kept out": shapes.Refusal(status=409, message="They have a membership, but …")},
            ),
            503: Told(
                "Telegram or the database does not answer just now, Telegram wants a pause, too "
                "many join requests wait for it, or the owner has to fix something first (no token "
                "or no group is set, the bot lost its rights there): the message says which. Pass "
                "the same on again after `retry_after` seconds.",
                {
                    "a pause": shapes.Unavailable(
                        message="Telegram wants a pause of 7 s.", retry_after=7
                    )
                },
                RETRY_AFTER,
            ),
        },
    ),
    Route(
        "GET",
        "/api/v1/openapi.json",
        "show_openapi",
        "service",
        answers={200: Told("An OpenAPI 3.1 document.", {"this": {"openapi": "3.1.0"}})},
    ),
    Route(
        "GET",
        "/healthz",
        "health",
        "service",
        answers={
            200: Told("All is well.", {"well": shapes.Health(status="ok", version="1.0.0")}),
            503: Told(
                "The database does not answer.",
                {"away": shapes.Health(status="unavailable", version="1.0.0")},
            ),
        },
    ),
    Route(
        "GET",
        "/metrics",
        "show_metrics",
        "service",
        answers={200: Told("Prometheus' text form, version 0.0.4.", {"a line": "up 1"})},
    ),
)
