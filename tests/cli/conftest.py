"""Fixtures for every test of the command line: it, pointed at a sandbox, on both databases."""

from collections.abc import Iterator

import pytest
from commands import Commands, Sandbox, commands, open_sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def real(database_url: str, sandbox: Sandbox) -> Commands:
    return commands(database_url, sandbox)


@pytest.fixture
def run(database_url: str, sandbox: Sandbox) -> Commands:
    """Real processes on SQLite; on PostgreSQL, which costs the time twice, in this process."""
    return commands(database_url, sandbox, inside=database_url.startswith("postgresql"))
