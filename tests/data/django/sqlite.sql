-- The original's tables as its migration makes them on SQLite (Django 5.0).
CREATE TABLE "subscription_service_plan" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "period" varchar(20) NOT NULL UNIQUE,
    "price" integer unsigned NOT NULL CHECK ("price" >= 0)
);
CREATE TABLE "subscription_service_telegramuser" (
    "password" varchar(128) NOT NULL,
    "last_login" datetime NULL,
    "is_superuser" bool NOT NULL,
    "chat_id" bigint unsigned NOT NULL PRIMARY KEY CHECK ("chat_id" >= 0),
    "telegram_username" varchar(256) NOT NULL UNIQUE,
    "first_name" varchar(256) NULL,
    "last_name" varchar(256) NULL,
    "at_private_group" bool NULL,
    "date_joined" datetime NOT NULL,
    "is_staff" bool NOT NULL
);
CREATE TABLE "subscription_service_subscription" (
    "transaction_hash" varchar(256) NOT NULL PRIMARY KEY,
    "start_date" datetime NOT NULL,
    "end_date" datetime NULL,
    "duration" bigint NOT NULL,
    "customer_id" bigint NULL UNIQUE
        REFERENCES "subscription_service_telegramuser" ("chat_id") DEFERRABLE INITIALLY DEFERRED,
    "plan_id" bigint NULL
        REFERENCES "subscription_service_plan" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "subscription_service_subscription_plan_id"
    ON "subscription_service_subscription" ("plan_id");
