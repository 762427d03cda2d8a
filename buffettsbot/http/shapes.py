"""The objects that clients are sent, field by field; the API's description has them from here.

They are not checked as they are sent: no request pays for what the tests see.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import ConfigDict, Field

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.members.users import LARGEST_ID, LONGEST_NAME
from buffettsbot.core.storage.models import PERIODS

ChatId = Annotated[int, Field(ge=1, le=LARGEST_ID, json_schema_extra={"format": "int64"})]
Username = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,31}$")]
DisplayName = Annotated[str, Field(max_length=LONGEST_NAME)]
Period = Annotated[str, Field(json_schema_extra={"enum": list(PERIODS)})]
PlanId = Annotated[int, Field(ge=1)]
Amount = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+(\.[0-9]{1,6})?$",
        description="In USDT, what the transaction brought; null while that is not known.",
    ),
]
Price = Annotated[int, Field(ge=1, description="In whole USDT.")]
TransactionHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Date = Annotated[
    str,
    Field(
        pattern="^[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}$",
        description="`dd/mm/YYYY HH:MM:SS` in the time zone that the owner has set "
        "(BUFFETTSBOT_TIMEZONE; UTC unless set).",
    ),
]
Status = Annotated[int, Field(description="As the answer's own.")]
Seconds = Annotated[int, Field(ge=1)]
Sentence = Annotated[str, Field(min_length=1)]


@dataclass_transform(kw_only_default=True)
class Shape:
    """A dataclass, built by keywords. The words below a field describe it."""

    __pydantic_config__ = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True)(cls)


class User(Shape):
    """A person as they are known now."""

    chat_id: ChatId
    telegram_username: Username | None
    """Without the `@`; null when they have none."""
    first_name: DisplayName | None
    last_name: DisplayName | None


class UserSaved(Shape):
    """A person who was registered, or brought up to date."""

    status: Status
    data: User


class Subscription(Shape):
    """A membership that runs."""

    customer: Annotated[str, Field(pattern="^([A-Za-z][A-Za-z0-9_]{0,31}|[0-9]{1,16})$")]
    """Their username, or the digits of their chat id when they have none."""
    plan: Period | None
    """Null for a membership that an admin granted without a plan."""
    price: Price | None
    """The plan's price today, in whole USDT; null where `plan` is."""
    transaction_hash: Annotated[str, Field(pattern="^([0-9a-f]{64}|grant-.+)$")]
    """The latest payment's hash; begins with `grant-` when an admin granted it."""
    start_date: Date
    end_date: Date


class SubscriptionCreated(Shape):
    """The period that a payment bought."""

    customer: ChatId
    plan: PlanId
    transaction_hash: TransactionHash
    """64 lower-case hex digits."""
    start_date: Date
    end_date: Date


class Plan(Shape):
    """A period on sale."""

    id: PlanId
    period: Period
    price: Price


class JoinAnswer(Shape):
    """What Telegram was told of a request to join."""

    approved: bool


def _one_of(reasons: dict[Reason, str]) -> Any:
    explained = " ".join(f"`{reason}`: {meaning}." for reason, meaning in reasons.items())
    return Field(json_schema_extra={"enum": list(reasons)}, description=explained)


PENDING = {
    Reason.NOT_FOUND: "the blockchain does not show the transaction (yet)",
    Reason.UNCONFIRMED: "seen, not final",
    Reason.SOURCE_UNAVAILABLE: "the blockchain services do not answer, or too many claims are "
    "waiting just now",
    Reason.SOURCES_DISAGREE: "they say different things",
    Reason.HELD_FOR_REVIEW: "an admin decides",
}
REFUSED = {
    Reason.MALFORMED_HASH: "no hash in it, or different ones",
    Reason.FAILED_TRANSACTION: "it failed, no money moved",
    Reason.NO_USDT_TRANSFER: "no genuine TRC-20 USDT moved",
    Reason.WRONG_RECIPIENT: "USDT moved, but none to the wallet",
    Reason.UNDERPAID: "less than the price",
    Reason.TOO_OLD: "paid too long before the claim",
    Reason.NEVER_FOUND: "the blockchain never showed it",
    Reason.REJECTED: "an admin refused it",
}


class ClaimPending(Shape):
    """A claim that is written down and not decided."""

    success: Literal[False] = False
    reason: Annotated[str, _one_of(PENDING)]
    status: Status = 202
    message: Sentence
    """A sentence for the customer, in the owner's language."""
    retry_after: Seconds | None
    """Seconds until the blockchain is asked again; null while an admin decides."""
    amount: Amount | None
    price: Price | None


class ClaimRefused(Shape):
    """A claim of a payment that buys nothing."""

    success: Literal[False] = False
    reason: Annotated[str, _one_of(REFUSED)]
    status: Status = 400
    message: Literal["Transaction is not valid"] = "Transaction is not valid"
    detail: Sentence
    """A sentence for the customer, in the owner's language: what is wrong, and what to do next."""
    amount: Amount | None = None
    price: Price | None = None


class HashUsed(Shape):
    """A claim of a hash that has bought, or is claimed by somebody else."""

    success: Literal[False] = False
    reason: Literal["already-used"] = "already-used"
    status: Status = 400
    message: Literal["Transaction hash already used for subscription."] = (
        "Transaction hash already used for subscription."
    )
    detail: Sentence
    """A sentence for the customer, in the owner's language: what is wrong, and what to do next."""
    amount: Amount | None = None
    price: Price | None = None


class UserNotFound(Shape):
    """Nobody of that name or id is registered."""

    message: Literal["User not found"] = "User not found"


class PlanNotFound(Shape):
    """No such period is on sale."""

    message: Literal["Plan not found"] = "Plan not found"


class SubscriptionNotFound(Shape):
    """No membership runs for them."""

    message: Literal["Subscription not found"] = "Subscription not found"


class Refusal(Shape):
    """The form of every refusal that is not about fields or a claim."""

    status: Status
    success: Literal[False] = False
    message: Sentence


class Unavailable(Shape):
    """Something is away; the same is worth sending again."""

    status: Status = 503
    success: Literal[False] = False
    message: Sentence
    retry_after: Seconds
    """In seconds; as the header."""


class Health(Shape):
    """Whether the service can work."""

    status: Literal["ok", "unavailable"]
    version: str
    """buffettsbot's version."""
