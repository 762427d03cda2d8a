"""What the API says of itself is sound, and true."""

from collections.abc import Iterator
from typing import Any

import bottle
import pytest
from helpers import clean_env
from jsonschema import Draft202012Validator
from serving import Bot, Host, described, hosting, resolved, validator

from buffettsbot.core.chain.judge import PENDING_REASONS, Reason
from buffettsbot.core.offers import plans
from buffettsbot.http import api as api_module


def test_the_routes_served_are_the_routes_described(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Kept(bottle.Bottle):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(api_module, "Bottle", Kept)
    with hosting(clean_env(sqlite_url)):
        served = {(route.method, route.rule) for route in made[0].routes}
    wanted = {
        (method.upper(), path.rstrip("/") + slash)
        for path, operations in described()["paths"].items()
        for method in operations
        for slash in ("", "/")
    }
    assert served == wanted


def _nodes(node: Any, *at: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield at, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _nodes(value, *at, key)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value, *at)


def test_the_description_is_sound() -> None:
    document = described()
    assert document["openapi"].startswith("3.1.")
    for at, node in _nodes(document):
        if isinstance(node, dict) and "$ref" in node:
            assert resolved(node), at
        if at and at[-1] == "schema":
            Draft202012Validator.check_schema(node)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        for response in operation["responses"].values():
            assert resolved(response)["description"]
        open_to_all = operation["operationId"] == "health"
        assert ("401" in operation["responses"]) is not open_to_all
        assert (operation.get("security") == []) is open_to_all


def test_every_example_of_the_description_is_true_to_its_schema() -> None:
    checked = 0
    for at, node in _nodes(described()):
        if isinstance(node, dict) and "schema" in node and "examples" in node:
            for example in node["examples"].values():
                validator(*at, "schema").validate(example["value"])
                checked += 1
    assert checked >= 15


def test_every_schema_is_used() -> None:
    used = {
        node["$ref"] for _, node in _nodes(described()) if isinstance(node, dict) and "$ref" in node
    }
    kept = {"#/components/schemas/Refusal"}  # what the text names
    for kind in ("schemas", "responses"):
        for name in described()["components"][kind]:
            assert f"#/components/{kind}/{name}" in used | kept


def test_the_reasons_described_are_those_there_are() -> None:
    schemas = described()["components"]["schemas"]
    pending = schemas["ClaimPending"]["properties"]["reason"]
    refused = schemas["ClaimRefused"]["properties"]["reason"]
    assert set(pending["enum"]) == {str(reason) for reason in PENDING_REASONS}
    used = schemas["HashUsed"]["properties"]["reason"]["const"]
    assert {*pending["enum"], *refused["enum"], used, "accepted"} == {*map(str, Reason)}
    for reason in pending["enum"] + refused["enum"]:
        assert f"`{reason}`: " in pending["description"] + refused["description"]


def _bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the described body of every route that takes one."""
    for path, operations in described()["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                yield path, operation["requestBody"]["content"]["application/json"]


def test_the_bodies_described_are_the_bodies_read(bot: Bot) -> None:
    for path, body in _bodies():
        fields = resolved(body["schema"])["properties"]
        answer = bot.post(path, dict.fromkeys(fields, []))
        assert (answer.status_code, set(answer.json())) == (400, set(fields)), path


def test_the_bodies_of_the_examples_are_understood(host: Host, bot: Bot) -> None:
    plans.create_plan(host.app.db, period="1 month", price=50)
    understood = [
        bot.post(path, example["value"]).status_code
        for path, body in _bodies()
        for example in body["examples"].values()
    ]
    assert understood == [201, 201, 202, 202, 503]  # no bot is set, so no group either
