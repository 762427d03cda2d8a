"""The bot's API: thin over the core, JSON in and out, as the contract (section 2) has it.

A route's docstring is its description for bot developers (openapi.json). Claims may wait for the
blockchain, join requests for Telegram; only so many do at once. Claims beyond are written down and
answered 202, join requests 503, without waiting: a slow or dead TRON or Telegram never starves the
other requests.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from bottle import Bottle, HTTPResponse, request

from buffettsbot import __version__
from buffettsbot.core.app import App, expectation_of, style_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import Unavailable
from buffettsbot.core.ledger import claims
from buffettsbot.core.members import memberships, users
from buffettsbot.core.messages.owners import words_of
from buffettsbot.core.offers import plans
from buffettsbot.core.telegram import joining
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.http import openapi, shapes
from buffettsbot.http.access import observed
from buffettsbot.http.answers import answer, errors_as_json, plain_error
from buffettsbot.http.bodies import SENTENCES, JoinRequest, NewClaim, NewUser, read
from buffettsbot.http.claim_answers import answer_claim
from buffettsbot.http.guard import guard
from buffettsbot.http.metrics import Metrics
from buffettsbot.http.openapi import Route


class Api:
    """The routes over one `App`; `chain_slots`: how many claims may wait for the chain,
    `telegram_slots`: how many join requests for Telegram; `queued` is called when a claim has left
    something in the outbox."""

    def __init__(
        self,
        app: App,
        chain: Chain,
        *,
        chain_slots: int,
        telegram: Telegram | None = None,
        telegram_slots: int = 1,
        queued: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._expectation = expectation_of(app.settings)
        self._style = style_of(app.settings)
        self.metrics = Metrics(app.db)
        self._chain = replace(chain, observe=self.metrics.observe_chain)
        self._chain_slots = threading.BoundedSemaphore(chain_slots)
        self._telegram = telegram
        self._telegram_slots = threading.BoundedSemaphore(telegram_slots)
        self._queued = queued

    def wsgi(self) -> Callable[..., Iterable[bytes]]:
        """Return the WSGI application: the routes, guarded, counted and logged."""
        bottle = Bottle()
        bottle.install(errors_as_json)
        bottle.add_hook("before_request", guard(self._app.settings.api_token))
        bottle.default_error_handler = plain_error
        for route in ROUTES:
            path = route.path.rstrip("/")
            bottle.route([path, path + "/"], route.method, partial(self._answer, route))
        return observed(bottle, self.metrics)

    def _answer(self, route: Route) -> HTTPResponse:
        return route.answering(self, read(route.body)) if route.body else route.answering(self)

    def add_user(self, new: NewUser) -> HTTPResponse:
        """Register a person, or update the profile of one who is known.

        `chat_id` is the identity. A username that somebody else held moves to this person: Telegram
        vouches for the new holder. First and last names that are not given (or null) stay as they
        were; an empty string clears them. Who never had one is answered null.
        """
        user, created = users.register(
            self._app.db,
            chat_id=new.chat_id,
            telegram_username=new.telegram_username,
            first_name=new.first_name,
            last_name=new.last_name,
            now=self._app.now(),
        )
        status = 201 if created else 200
        data = shapes.User(
            chat_id=user.chat_id,
            telegram_username=user.telegram_username,
            first_name=user.first_name or new.first_name,  # as the original: null, unless ""
            last_name=user.last_name or new.last_name,  # was given
        )
        return answer(status, shapes.UserSaved(status=status, data=data))

    def show_subscription(self) -> HTTPResponse:
        """Show the membership that runs for a person.

        One of the two parameters is needed; with both, `chat_id` counts.
        """
        asked = request.query
        person = asked.getunicode("chat_id") or asked.getunicode("telegram_username")
        if not person or not person.strip():
            return answer(400, {"telegram_username": [SENTENCES["missing"]]})
        member = memberships.running_member(self._app.db, person, now=self._app.now())
        shown = shapes.Subscription(
            customer=member.telegram_username or str(member.chat_id),
            plan=member.plan,
            price=member.price,
            transaction_hash=member.transaction_hash,
            start_date=self._date(member.start_date),
            end_date=self._date(member.end_date),
        )
        return answer(200, shown)

    def claim_subscription(self, new: NewClaim) -> HTTPResponse:
        """Sell a membership for a transaction hash.

        The claim is written down first, then the blockchain is asked; that usually takes less than
        a second and never more than about 15, so wait 20 s for the answer.

        * **201**: paid and in. A renewal adds its days to the end that stands.
        * **202**: not decided yet. It is asked again by itself until there is an answer, and the
          customer hears the outcome; nothing has to be sent again. Sending the same again after
          `retry_after` seconds is fine and shows how it stands.
        * **400** with a `reason`: refused. `detail` is a sentence for the customer that says what
          to do next.

        Sentences for the customer, `detail` and the `message` of a 202, are in the owner's language
        (BUFFETTSBOT_LANGUAGE).

        Each hash buys once, for ever. The same customer, plan and hash again is answered 201 with
        the same body. A hash that is pending or used for somebody else is `already-used`.
        """
        has_slot = self._chain_slots.acquire(blocking=False)
        try:
            outcome = claims.claim(
                self._app.db,
                self._chain if has_slot else None,
                self._expectation,
                person=new.person,
                period=new.plan,
                transaction_hash=new.transaction_hash,
                now=self._app.now(),
            )
        finally:
            if has_slot:
                self._chain_slots.release()
        self.metrics.claims.labels(outcome.verdict.verdict, outcome.verdict.reason).inc()
        self._queued()
        words = words_of(self._style, [])
        return answer_claim(outcome, new.transaction_hash, words, self._date)

    def list_plans(self) -> HTTPResponse:
        """List what is on sale, the shortest period first."""
        on_sale: list[Any] = plans.list_plans(self._app.db, on_sale_only=True)  # each has its id
        return answer(200, [shapes.Plan(id=p.id, period=p.period, price=p.price) for p in on_sale])

    def answer_join_request(self, new: JoinRequest) -> HTTPResponse:
        """Let a member into the group, turn anyone else away.

        Pass on each `chat_join_request` that Telegram sends the bot: its `from.id` is the
        `chat_id`. Whoever has a membership that runs is approved at Telegram, anyone else is
        declined there, people who never registered included; the bot need not answer Telegram
        itself. The same request again is answered the same.

        A payment that is not decided is no membership yet, so its owner is declined. They lose
        nothing: once it is accepted they get an invitation of their own, and may ask again.

        This waits for Telegram, usually less than a second and never more than about 16.
        """
        if not self._telegram_slots.acquire(blocking=False):
            raise Unavailable("Too many join requests wait for Telegram. Pass it on again.")
        try:
            approved = joining.answer_request(
                self._app.db, self._telegram, chat_id=new.chat_id, now=self._app.now()
            )
        finally:
            self._telegram_slots.release()
        self.metrics.join_requests.labels("approved" if approved else "declined").inc()
        return answer(200, shapes.JoinAnswer(approved=approved))

    def show_openapi(self) -> HTTPResponse:
        """Show this description."""
        return HTTPResponse(self._openapi, 200, {"Content-Type": "application/json"})

    @cached_property
    def _openapi(self) -> bytes:
        return openapi.document(ROUTES)

    def health(self) -> HTTPResponse:
        """Say whether the service and its database answer.

        Needs no token and tells no secret. TRON and Telegram do not count: claims wait for them.
        """
        if not self._app.db.answers():
            return answer(503, shapes.Health(status="unavailable", version=__version__))
        return answer(200, shapes.Health(status="ok", version=__version__))

    def show_metrics(self) -> HTTPResponse:
        """Show metrics in Prometheus' text form.

        Claims by verdict and reason, chain latency by source, requests by route and status, open
        payments, and when each pass last ended. What stands in the database is absent while that
        does not answer.
        """
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return HTTPResponse(self.metrics.text(), 200, {"Content-Type": kind})

    def _date(self, moment: datetime) -> str:
        return moment.astimezone(self._app.settings.timezone).strftime("%d/%m/%Y %H:%M:%S")


ROUTES = (
    Route("POST", "/api/v1/users/", Api.add_user, "users", NewUser),
    Route("GET", "/api/v1/subscriptions/", Api.show_subscription, "subscriptions"),
    Route("POST", "/api/v1/subscriptions/", Api.claim_subscription, "subscriptions", NewClaim),
    Route("GET", "/api/v1/plans/", Api.list_plans, "plans"),
    Route("POST", "/api/v1/join-requests/", Api.answer_join_request, "subscriptions", JoinRequest),
    Route("GET", "/api/v1/openapi.json", Api.show_openapi, "service"),
    Route("GET", "/healthz", Api.health, "service"),
    Route("GET", "/metrics", Api.show_metrics, "service"),
)
