"""The original's database, of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django_original import Original
from sqlalchemy import make_url


@pytest.fixture
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Original]:
    """The original's database, empty: of the kind that the target is not, unless told."""
    kind = getattr(request, "param", None)
    if kind is None:
        target = make_url(request.getfixturevalue("database_url")).get_backend_name()
        kind = "postgresql" if target == "sqlite" else "sqlite"
    path = tmp_path / "original.sqlite3"
    url = f"sqlite:///{path}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    made = Original(url)
    yield made
    made.engine.dispose()
