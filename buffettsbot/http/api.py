"""The bot's API: thin over the core, JSON in and out, as the contract (section 2) has it.

Claims may wait for the blockchain, join requests for Telegram; only so many do at once. Claims
beyond are written down and answered 202, join requests 503, without waiting: a slow or dead TRON or
Telegram never starves the other requests.
"""

import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, request, response

from buffettsbot import __version__
from buffettsbot.core.app import App, expectation_of
from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import (
    BuffettsbotError,
    Invalid,
    NoMembership,
    Unavailable,
    UnknownPlan,
    UnknownUser,
)
from buffettsbot.core.ledger import claims
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.members import memberships, users
from buffettsbot.core.offers import plans
from buffettsbot.core.telegram import joining
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.http.bodies import Fields, answer, refuse
from buffettsbot.http.metrics import Metrics

access_log = logging.getLogger("buffettsbot.access")

OPENAPI_FILE = Path(__file__).with_name("openapi.json")

_MESSAGES = {
    UnknownUser: "User not found",
    UnknownPlan: "Plan not found",
    NoMembership: "Subscription not found",
}


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
        self._queued = queued
        self._app = app
        self._expectation = expectation_of(app.settings)
        self._zone = app.settings.timezone
        token = app.settings.api_token
        self._token = token.get_secret_value().encode() if token else None
        self.metrics = Metrics(app.db)
        self._chain = replace(chain, observe=self.metrics.observe_chain)
        self._slots = threading.BoundedSemaphore(chain_slots)
        self._telegram = telegram
        self._telegram_slots = threading.BoundedSemaphore(telegram_slots)

    def wsgi(self) -> Callable[..., Iterable[bytes]]:
        """Return the WSGI application: the routes, guarded, counted and logged."""
        routes = Bottle()
        routes.install(_errors_as_json)
        routes.add_hook("before_request", self._guard)
        routes.default_error_handler = _plain_error
        for method, path, callback in (
            ("POST", "/api/v1/users", self.add_user),
            ("GET", "/api/v1/subscriptions", self.show_subscription),
            ("POST", "/api/v1/subscriptions", self.claim_subscription),
            ("GET", "/api/v1/plans", self.list_plans),
            ("POST", "/api/v1/join-requests", self.answer_join_request),
            ("GET", "/api/v1/openapi.json", self.show_openapi),
            ("GET", "/healthz", self.health),
            ("GET", "/metrics", self.show_metrics),
        ):
            routes.route([path, path + "/"], method, callback)
        return _observed(routes, self.metrics)

    def _guard(self) -> None:
        if self._token is None or request.path.rstrip("/") == "/healthz":
            return
        sent = request.environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")  # its bytes
        scheme, _, given = sent.partition(b" ")
        right = hmac.compare_digest(given.strip(), self._token)
        if scheme.lower() != b"bearer" or not right:
            raise refuse(
                401,
                "Send the header Authorization: Bearer <token>, with the service's API token.",
                WWW_Authenticate="Bearer",
            )

    def add_user(self) -> HTTPResponse:
        """Register a person, or update the profile of one who is known."""
        fields = Fields()
        chat_id = fields.integer("chat_id", required=True)
        username = fields.text("telegram_username", required=True, nullable=True)
        names = {name: fields.text(name) for name in ("first_name", "last_name")}
        if chat_id is not None:
            _checked(fields, "chat_id", users.parse_chat_id, chat_id)
        if username is not None:
            _checked(fields, "telegram_username", users.parse_username, username)
        for name, value in names.items():
            if value is not None:
                _checked(fields, name, users.parse_display_name, value)
        fields.check()
        user, created = users.register(
            self._app.db,
            chat_id=chat_id or 0,
            telegram_username=username,
            first_name=names["first_name"],
            last_name=names["last_name"],
            now=self._app.now(),
        )
        status = 201 if created else 200
        shown = ("chat_id", "telegram_username", "first_name", "last_name")
        data = {name: getattr(user, name) for name in shown}
        return answer(status, {"status": status, "data": data})

    def show_subscription(self) -> HTTPResponse:
        """Return the membership that runs for a person."""
        person = request.query.getunicode("chat_id") or request.query.getunicode(
            "telegram_username"
        )
        if not person or not person.strip():
            return answer(400, {"telegram_username": ["This field is required."]})
        member = memberships.running_member(self._app.db, person, now=self._app.now())
        return answer(
            200,
            {
                "customer": member.telegram_username or str(member.chat_id),
                "plan": member.plan,
                "price": member.price,
                "transaction_hash": member.transaction_hash,
                "start_date": self._date(member.start_date),
                "end_date": self._date(member.end_date),
            },
        )

    def claim_subscription(self) -> HTTPResponse:
        """Sell a membership for a transaction hash, refuse it, or promise to find out."""
        fields = Fields()
        chat_id = fields.integer("chat_id")
        username = fields.text("telegram_username", required=chat_id is None)
        period = fields.text("plan", required=True)
        transaction_hash = fields.text("transaction_hash", required=True)
        fields.check()
        patient = self._slots.acquire(blocking=False)
        try:
            outcome = claims.claim(
                self._app.db,
                self._chain if patient else None,
                self._expectation,
                person=chat_id if chat_id is not None else username or "",
                period=period or "",
                transaction_hash=transaction_hash or "",
                now=self._app.now(),
            )
        finally:
            if patient:
                self._slots.release()
        self.metrics.claims.labels(outcome.verdict.verdict, outcome.verdict.reason).inc()
        self._queued()
        return self._said(outcome)

    def _said(self, outcome: Outcome) -> HTTPResponse:
        verdict = outcome.verdict
        if verdict.verdict == "accepted":
            return answer(
                201,
                {
                    "customer": outcome.customer_id,
                    "plan": outcome.plan_id,
                    "transaction_hash": outcome.transaction_hash,
                    "start_date": self._date(outcome.start_date),
                    "end_date": self._date(outcome.end_date),
                },
            )
        said: dict[str, Any] = {"success": False, "reason": verdict.reason}
        if verdict.verdict == "pending":
            said |= {"status": 202, "message": verdict.detail, "retry_after": outcome.retry_after}
            wait = {} if outcome.retry_after is None else {"Retry_After": str(outcome.retry_after)}
            return answer(202, said, **wait)
        used = verdict.reason is Reason.ALREADY_USED
        message = (
            "Transaction hash already used for subscription."
            if used
            else "Transaction is not valid"
        )
        return answer(400, said | {"status": 400, "message": message, "detail": verdict.detail})

    def list_plans(self) -> HTTPResponse:
        """Return what is on sale."""
        on_sale = plans.list_plans(self._app.db, on_sale_only=True)
        return answer(200, [{"id": p.id, "period": p.period, "price": p.price} for p in on_sale])

    def answer_join_request(self) -> HTTPResponse:
        """Let a member into the group, turn anyone else away."""
        fields = Fields()
        chat_id = fields.integer("chat_id", required=True)
        if chat_id is not None:
            _checked(fields, "chat_id", users.parse_chat_id, chat_id)
        fields.check()
        if not self._telegram_slots.acquire(blocking=False):
            raise Unavailable("Too many join requests wait for Telegram. Pass it on again.")
        try:
            approved = joining.answer_request(
                self._app.db, self._telegram, chat_id=chat_id or 0, now=self._app.now()
            )
        finally:
            self._telegram_slots.release()
        self.metrics.join_requests.labels("approved" if approved else "declined").inc()
        return answer(200, {"approved": approved})

    def health(self) -> HTTPResponse:
        """Say whether the database answers."""
        if not self._app.db.answers():
            return answer(503, {"status": "unavailable", "version": __version__})
        return answer(200, {"status": "ok", "version": __version__})

    def show_metrics(self) -> HTTPResponse:
        """Return the metrics for Prometheus."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return HTTPResponse(self.metrics.text(), 200, {"Content-Type": kind})

    def show_openapi(self) -> HTTPResponse:
        """Return the OpenAPI description of all of this."""
        return HTTPResponse(self._openapi, 200, {"Content-Type": "application/json"})

    @cached_property
    def _openapi(self) -> bytes:
        described: dict[str, Any] = json.loads(OPENAPI_FILE.read_text("utf-8"))
        described["info"]["version"] = __version__
        return json.dumps(described, ensure_ascii=False).encode()

    def _date(self, moment: datetime | None) -> str | None:
        return moment.astimezone(self._zone).strftime("%d/%m/%Y %H:%M:%S") if moment else None


def _checked(fields: Fields, name: str, parse: Callable[[Any], object], value: object) -> None:
    try:
        parse(value)
    except Invalid as error:
        fields.wrong(name, str(error))


def _errors_as_json(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Where every deliberate error becomes its status and one JSON object."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except (UnknownUser, UnknownPlan, NoMembership) as error:
            return answer(404, {"message": _MESSAGES[type(error)]})
        except Unavailable as error:
            return _unavailable(error)
        except BuffettsbotError as error:
            return refuse(error.http_status, str(error))

    return wrapper


def _unavailable(error: Unavailable) -> HTTPResponse:
    wait = error.retry_after
    said = {"status": 503, "success": False, "message": str(error), "retry_after": wait}
    return answer(503, said, Retry_After=str(wait))


_WORDS = {
    404: "There is no such route. The API is described at /api/v1/openapi.json",
    405: "This route does not know this method.",
    500: "Something went wrong here; the log has the details. Try again.",
}


def _plain_error(error: HTTPError) -> bytes:
    """Say bottle's own errors in JSON. Nothing of the exception leaves the house."""
    response.content_type = "application/json"
    message = _WORDS.get(error.status_code, error.status_line)
    body = {"status": error.status_code, "success": False, "message": message}
    return json.dumps(body).encode()


def _observed(routes: Bottle, metrics: Metrics) -> Callable[..., Iterable[bytes]]:
    """Count and log each request: its route, never its query or headers, which may hold secrets."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started = time.perf_counter()
        status = "500"

        def observe_status(line: str, headers: list[Any], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, headers, exc_info)

        try:
            body: Iterable[bytes] = routes(environ, observe_status)
            return body
        finally:
            seconds = time.perf_counter() - started
            known = environ.get("bottle.route")
            route = known.rule.rstrip("/") if known else "unmatched"
            method = environ["REQUEST_METHOD"]
            label = method if known else "other"
            metrics.requests.labels(route, label, status).inc()
            metrics.request_seconds.labels(route).observe(seconds)
            access_log.info("%s %s %s %.1f ms", method[:10], route, status, seconds * 1000)

    return application
