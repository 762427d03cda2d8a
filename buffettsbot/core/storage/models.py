"""The tables and their constraints: what must never be untrue is kept by the database.

Times are UTC and aware, USDT amounts whole micro-USDT, plan prices whole USDT, Telegram ids 64-bit,
durations whole seconds. `table=True` models do not validate, so every rule that matters stands here
as a constraint; names of constraints are the names of the rules.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

_SERIAL = BigInteger().with_variant(Integer(), "sqlite")

PERIODS = {
    "1 month": timedelta(days=30),
    "3 months": timedelta(days=90),
    "6 months": timedelta(days=180),
    "1 year": timedelta(days=365),
}

METADATA = SQLModel.metadata
METADATA.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _serial() -> Any:
    """A growing 64-bit number; SQLite counts only in a column that is declared INTEGER."""
    return Field(
        default=None,
        sa_column_kwargs={"autoincrement": True},
        sa_type=_SERIAL,
        primary_key=True,
    )


class TelegramUser(SQLModel, table=True):
    """A person whom Telegram vouches for. The id is the identity; the name may move to another."""

    __tablename__ = "telegram_user"
    __table_args__ = (
        Index("telegram_user_username", text("lower(telegram_username)"), unique=True),
        Index(
            "telegram_user_staff",
            "chat_id",
            postgresql_where=text("is_staff"),
            sqlite_where=text("is_staff"),
        ),
        CheckConstraint("chat_id > 0", name="chat_id"),
    )

    chat_id: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    telegram_username: str | None = None
    first_name: str = ""
    last_name: str = ""
    at_private_group: bool = False
    date_joined: datetime
    is_staff: bool = False


class Plan(SQLModel, table=True):
    """A period on sale, at a price in whole USDT. Retired plans keep their history."""

    __tablename__ = "plan"
    __table_args__ = (
        UniqueConstraint("period", name="plan_period"),
        CheckConstraint(_one_of("period", list(PERIODS)), name="period"),
        CheckConstraint("price > 0", name="price"),
    )

    id: int | None = Field(default=None, primary_key=True)
    period: str
    price: int
    is_active: bool = True


class Subscription(SQLModel, table=True):
    """The membership as it stands, one per customer; the payments behind it are in the ledger."""

    __tablename__ = "subscription"
    __table_args__ = (
        UniqueConstraint("customer_id", name="subscription_customer"),
        Index("subscription_end", "end_date", "customer_id"),
        Index(
            "subscription_running",
            "end_date",
            "customer_id",
            postgresql_where=text("expired_at IS NULL"),
            sqlite_where=text("expired_at IS NULL"),
        ),
        CheckConstraint("end_date > start_date", name="dates"),
        CheckConstraint("duration > 0", name="duration"),
    )

    transaction_hash: str = Field(primary_key=True)
    customer_id: int = Field(sa_type=BigInteger, foreign_key="telegram_user.chat_id")
    plan_id: int | None = Field(default=None, foreign_key="plan.id")
    start_date: datetime
    end_date: datetime
    duration: int = Field(sa_type=BigInteger)
    expired_at: datetime | None = None


PAYMENT_STATUSES = ["pending", "accepted", "refused", "held"]
OPEN = ("pending", "held")
LIVE = (*OPEN, "accepted")
_LIVE = _one_of("status", ["pending", "accepted", "held"])


class Payment(SQLModel, table=True):
    """The ledger: one row for each customer, plan and hash ever claimed, never deleted.

    `payment_hash_live` is promise 1: whatever happens, one hash can be alive only once.
    """

    __tablename__ = "payment"
    __table_args__ = (
        Index(
            "payment_hash_live",
            "transaction_hash",
            unique=True,
            postgresql_where=text(_LIVE),
            sqlite_where=text(_LIVE),
        ),
        UniqueConstraint("transaction_hash", "customer_id", "plan_id", name="payment_claim"),
        Index("payment_customer", "customer_id", "id"),
        Index(
            "payment_due",
            "next_check_at",
            "id",
            postgresql_where=text("status = 'pending'"),
            sqlite_where=text("status = 'pending'"),
        ),
        CheckConstraint(_one_of("status", PAYMENT_STATUSES), name="status"),
        CheckConstraint(
            "status <> 'accepted' OR "
            "(period_end IS NOT NULL AND period_start IS NOT NULL AND decided_at IS NOT NULL)",
            name="accepted_has_period",
        ),
        CheckConstraint("status <> 'pending' OR next_check_at IS NOT NULL", name="pending_is_due"),
    )

    id: int | None = _serial()
    transaction_hash: str
    customer_id: int = Field(sa_type=BigInteger, foreign_key="telegram_user.chat_id")
    plan_id: int = Field(foreign_key="plan.id")
    price: int
    status: str = "pending"
    reason: str
    amount: int | None = Field(default=None, sa_type=BigInteger)
    sender: str | None = None
    paid_at: datetime | None = None
    claimed_at: datetime
    decided_at: datetime | None = None
    attempts: int = 0
    next_check_at: datetime | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    evidence: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON(none_as_null=True))


OUTBOX_STATUSES = ["queued", "sent", "failed", "cancelled"]


class Outbox(SQLModel, table=True):
    """Every effect on Telegram, queued in the transaction that decided it.

    `key` says what it is for, so doing it twice is impossible to write.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("key", name="outbox_key"),
        Index(
            "outbox_due",
            "not_before",
            "id",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        Index("outbox_chat", "chat_id", "id"),
        Index(
            "outbox_chat_queued",
            "chat_id",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        CheckConstraint(_one_of("status", OUTBOX_STATUSES), name="status"),
    )

    id: int | None = _serial()
    key: str
    kind: str
    chat_id: int = Field(sa_type=BigInteger)
    payload: dict[str, Any] = Field(sa_type=JSON)
    status: str = "queued"
    attempts: int = 0
    not_before: datetime
    leased_until: datetime | None = None
    sent_at: datetime | None = None
    error: str | None = None
    created_at: datetime


class Lease(SQLModel, table=True):
    """Who may do alone what only one may do, and until when."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    until: datetime


class PassRun(SQLModel, table=True):
    """What ran, when, with what result."""

    __tablename__ = "pass_run"
    __table_args__ = (Index("pass_run_latest", "name", "started_at"),)

    id: int | None = _serial()
    name: str
    started_at: datetime
    finished_at: datetime | None = None
    report: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class Audit(SQLModel, table=True):
    """Every change that a person made through the command line."""

    __tablename__ = "audit"

    id: int | None = _serial()
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str = ""


# The same tables for statements that are built once, at import: the hot paths run on these.
TELEGRAM_USER, PLAN, SUBSCRIPTION, PAYMENT, OUTBOX, LEASE, AUDIT = (
    METADATA.tables[name]
    for name in ("telegram_user", "plan", "subscription", "payment", "outbox", "lease", "audit")
)
