"""The story that the demo plays. Every step has to show what it should."""

from datetime import UTC, datetime, timedelta

from buffettsbot.cli.demo.stage import Stage, WrongTurn
from buffettsbot.core.app import expectation_of
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind

ANN, BEN, EVE, OWNER = 7_000_000_001, 7_000_000_002, 7_000_000_003, 42
MINUTE = timedelta(minutes=1)
MONTH = timedelta(days=30)


def play_story(stage: Stage) -> None:
    """Play every step. Raises WrongTurn."""
    _opening(stage)
    _outage(stage)
    _sale(stage)
    _fraud(stage)
    _renewal(stage)
    _recovery(stage)
    ends = _looking_around(stage)
    _reminder(stage, ends - timedelta(days=3) + MINUTE)
    _expiry(stage, ends + MINUTE)


def _opening(stage: Stage) -> None:
    stage.scene("The owner puts two plans on sale, and makes himself staff.")
    stage.admin("plans", "create", "1 month", "50")
    stage.admin("plans", "create", "1 year", "500")
    stage.admin("plans", "list", shows="1 year")
    stage.admin("users", "add", str(OWNER), "@owner")
    stage.admin("users", "promote", "@owner")

    stage.scene("Ann presses Start; the bot registers her.")
    stage.register(ANN, "Ann")


def _outage(stage: Stage) -> None:
    stage.scene("TRON is down while Ben pays. He is not turned away: his claim waits.")
    stage.register(BEN, "Ben")
    for service in ("tronscan", "trongrid"):
        stage.play("faults", service=service, fault="500")
    paid = stage.pay("good", 50)
    stage.admin("subscribers", "claim", "@ben", "1 month", paid, code=5, shows="pending")
    stage.sandbox.delete("/_sandbox/faults")


def _sale(stage: Stage) -> None:
    stage.scene("Ann pays 50 USDT. The owner looks at the hash, which changes nothing.")
    first = stage.pay("good", 50)
    stage.admin("verify", first, shows="pays for  1 month")

    stage.scene("Ann hands in the hash, and is in. Twice changes nothing.")
    bought = stage.claim(ANN, "1 month", first, 201)
    if stage.claim(ANN, "1 month", f"0x{first.upper()}", 201) != bought:
        raise WrongTurn("the same claim was not answered the same")
    (welcome,) = stage.receives("Ann", ANN, "Welcome!")
    stage.join(ANN, welcome)

    stage.scene("Eve saw the hash on the public chain. It has bought already.")
    stage.register(EVE, "Eve")
    refused = stage.claim(EVE, "1 month", first, 400)
    _expect(refused["reason"], "already-used")
    stage.scene("She tries Ann's invitation, too. Only who has paid is let in.")
    stage.join(EVE, welcome, approved=False)


def _fraud(stage: Stage) -> None:
    stage.scene("Eve pays in a token of her own named USDT, then too little.")
    stage.admin("verify", stage.pay("fake-token", 500), code=4, shows="no-usdt-transfer")
    little = stage.pay("good", 12)
    stage.admin("subscribers", "claim", "@eve", "1 year", little, code=4, shows="12 USDT arrived")


def _renewal(stage: Stage) -> None:
    stage.scene("Ann renews early. The new month begins where the old one ends.")
    before = _time(stage.call("GET", "/api/v1/subscriptions/", 200, params={"chat_id": ANN}))
    added = _time(stage.claim(ANN, "1 month", stage.pay("good", 50), 201)) - before
    if abs(added - MONTH) > timedelta(seconds=2):
        raise WrongTurn(f"the renewal added {added} instead of 30 days")
    stage.receives("Ann", ANN, "Renewed")


def _recovery(stage: Stage) -> None:
    stage.scene("TRON is back. Within a minute a pass asks it again, and Ben is in.")
    soon = datetime.now(UTC).replace(microsecond=0) + MINUTE
    stage.admin("pass", "settle", "--dry-run", "--at", soon.isoformat(), shows="1 due")
    expected = expectation_of(stage.settings)
    stage.run_later(soon, lambda db, chain: settle(db, chain, expected, now=soon))
    *_, welcome = stage.receives("Ben", BEN, "We are checking your payment", "Welcome!", shown=2)
    stage.join(BEN, welcome)


def _looking_around(stage: Stage) -> datetime:
    """Return when Ben's membership ends."""
    stage.scene("The owner looks around; of each sale he was told at once.")
    stage.admin("subscribers", "list", shows="@ann")
    stage.admin("payments", "list", shows="refused")
    kinds = ("Add to the private group", "Keep in the private group", "Add to the private group")
    stage.receives("the owner", OWNER, *kinds)
    stage.admin("outbox", "list", "--status", "sent", shows="renewal")
    return _time(stage.call("GET", "/api/v1/subscriptions/", 200, params={"chat_id": BEN}))


def _reminder(stage: Stage, day: datetime) -> None:
    stage.scene("Three days before the end, Ben is reminded.")
    at = day.isoformat(timespec="minutes")
    stage.admin("pass", "remind", "--dry-run", "--at", at, shows="@ben")
    stage.run_later(day, lambda db, _: remind(db, now=day, days=(7, 3, 1)))
    stage.receives("Ben", BEN, "3 days", "Your membership", shown=2)
    stage.receives("the owner", OWNER, "Reminders", shown=0)


def _expiry(stage: Stage, day: datetime) -> None:
    stage.scene("Ben does not renew: he leaves. Ann has paid: she stays.")
    at = day.isoformat(timespec="minutes")
    stage.admin("pass", "expire", "--dry-run", "--at", at, shows="@ben")
    stage.run_later(day, lambda db, _: expire(db, now=day, guard=0.2, group=True))
    stage.receives("Ben", BEN, "has ended")
    stage.receives("the owner", OWNER, "Delete from the private group", "ended: 1")
    _expect(stage.members(), {ANN: "member", BEN: "left"})
    stage.admin("subscribers", "list", "--status", "all", shows="expired")


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongTurn(f"{found!r} was shown instead of {wanted!r}")


def _time(subscription: dict[str, str]) -> datetime:
    return datetime.strptime(subscription["end_date"], "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC)
