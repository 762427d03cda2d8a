"""The first form of the data."""

import sqlalchemy as sa
from alembic import op
from sqlmodel import UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table, constraint and index."""
    op.create_table(
        "audit",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("lease_pkey")),
    )
    op.create_table(
        "outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", UTCDateTime(), nullable=False),
        sa.Column("leased_until", UTCDateTime(), nullable=True),
        sa.Column("sent_at", UTCDateTime(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'sent', 'failed', 'cancelled')", name=op.f("outbox_status_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
        sa.UniqueConstraint("key", name="outbox_key"),
    )
    op.create_index("outbox_chat", "outbox", ["chat_id", "id"], unique=False)
    op.create_index(
        "outbox_chat_queued",
        "outbox",
        ["chat_id"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["not_before", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "pass_run",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pass_run_pkey")),
    )
    op.create_index("pass_run_latest", "pass_run", ["name", "started_at"], unique=False)
    op.create_table(
        "plan",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "period IN ('1 month', '3 months', '6 months', '1 year')",
            name=op.f("plan_period_check"),
        ),
        sa.CheckConstraint("price > 0", name=op.f("plan_price_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("plan_pkey")),
        sa.UniqueConstraint("period", name="plan_period"),
    )
    op.create_table(
        "telegram_user",
        sa.Column("chat_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("telegram_username", sa.String(), nullable=True),
        sa.Column("first_name", sa.String(), nullable=False),
        sa.Column("last_name", sa.String(), nullable=False),
        sa.Column("at_private_group", sa.Boolean(), nullable=False),
        sa.Column("date_joined", UTCDateTime(), nullable=False),
        sa.Column("is_staff", sa.Boolean(), nullable=False),
        sa.CheckConstraint("chat_id > 0", name=op.f("telegram_user_chat_id_check")),
        sa.PrimaryKeyConstraint("chat_id", name=op.f("telegram_user_pkey")),
    )
    op.create_index(
        "telegram_user_username",
        "telegram_user",
        [sa.text("lower(telegram_username)")],
        unique=True,
    )
    op.create_index(
        "telegram_user_staff",
        "telegram_user",
        ["chat_id"],
        unique=False,
        postgresql_where=sa.text("is_staff"),
        sqlite_where=sa.text("is_staff"),
    )
    op.create_table(
        "payment",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("transaction_hash", sa.String(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.Integer(), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("sender", sa.String(), nullable=True),
        sa.Column("paid_at", UTCDateTime(), nullable=True),
        sa.Column("claimed_at", UTCDateTime(), nullable=False),
        sa.Column("decided_at", UTCDateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_check_at", UTCDateTime(), nullable=True),
        sa.Column("period_start", UTCDateTime(), nullable=True),
        sa.Column("period_end", UTCDateTime(), nullable=True),
        sa.Column("evidence", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "status <> 'accepted' OR (period_end IS NOT NULL AND period_start IS NOT NULL AND "
            "decided_at IS NOT NULL)",
            name=op.f("payment_accepted_has_period_check"),
        ),
        sa.CheckConstraint(
            "status <> 'pending' OR next_check_at IS NOT NULL",
            name=op.f("payment_pending_is_due_check"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'accepted', 'refused', 'held')",
            name=op.f("payment_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["telegram_user.chat_id"], name=op.f("payment_customer_id_fkey")
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("payment_plan_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("payment_pkey")),
        sa.UniqueConstraint("transaction_hash", "customer_id", "plan_id", name="payment_claim"),
    )
    op.create_index("payment_customer", "payment", ["customer_id", "id"], unique=False)
    op.create_index(
        "payment_due",
        "payment",
        ["next_check_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
        sqlite_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "payment_hash_live",
        "payment",
        ["transaction_hash"],
        unique=True,
        postgresql_where=sa.text("status IN ('pending', 'accepted', 'held')"),
        sqlite_where=sa.text("status IN ('pending', 'accepted', 'held')"),
    )
    op.create_table(
        "subscription",
        sa.Column("transaction_hash", sa.String(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.Integer(), nullable=True),
        sa.Column("start_date", UTCDateTime(), nullable=False),
        sa.Column("end_date", UTCDateTime(), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=False),
        sa.Column("expired_at", UTCDateTime(), nullable=True),
        sa.CheckConstraint("duration > 0", name=op.f("subscription_duration_check")),
        sa.CheckConstraint("end_date > start_date", name=op.f("subscription_dates_check")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["telegram_user.chat_id"], name=op.f("subscription_customer_id_fkey")
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("subscription_plan_id_fkey")),
        sa.PrimaryKeyConstraint("transaction_hash", name=op.f("subscription_pkey")),
        sa.UniqueConstraint("customer_id", name="subscription_customer"),
    )
    op.create_index("subscription_end", "subscription", ["end_date", "customer_id"], unique=False)
    op.create_index(
        "subscription_running",
        "subscription",
        ["end_date", "customer_id"],
        unique=False,
        postgresql_where=sa.text("expired_at IS NULL"),
        sqlite_where=sa.text("expired_at IS NULL"),
    )
