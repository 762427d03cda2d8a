"""What the contract names: the columns of each list, and how a time is written."""

import csv
import io
import re
from datetime import UTC, datetime

PLAN_FIELDS = ["id", "period", "price", "is_active"]
USER_FIELDS = [
    "chat_id",
    "telegram_username",
    "first_name",
    "last_name",
    "at_private_group",
    "date_joined",
    "is_staff",
]
MEMBER_FIELDS = [
    "chat_id",
    "telegram_username",
    "plan",
    "price",
    "transaction_hash",
    "start_date",
    "end_date",
    "status",
    "at_private_group",
]
# The columns of the table in design.md but for `evidence` (`payments show --evidence` has it), and
# the names behind the ids.
PAYMENT_FIELDS = [
    "id",
    "transaction_hash",
    "customer_id",
    "telegram_username",
    "plan_id",
    "plan",
    "price",
    "status",
    "reason",
    "amount",
    "sender",
    "paid_at",
    "claimed_at",
    "decided_at",
    "attempts",
    "next_check_at",
    "period_start",
    "period_end",
]
VERDICT_FIELDS = [
    "transaction_hash",
    "verdict",
    "reason",
    "detail",
    "amount",
    "sender",
    "recipient",
    "time",
    "source",
]
# The columns of the tables in design.md
OUTBOX_FIELDS = [
    "id",
    "key",
    "kind",
    "chat_id",
    "payload",
    "status",
    "attempts",
    "not_before",
    "leased_until",
    "sent_at",
    "error",
    "created_at",
]
AUDIT_FIELDS = ["id", "at", "actor", "action", "subject", "detail"]
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def is_time(value: object) -> bool:
    return isinstance(value, str) and bool(UTC_TIME.fullmatch(value))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def now() -> datetime:
    return datetime.now(UTC)
