"""The queries of docs/captions-in-sql.md, run by the reader role on a running stack."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.conftest import LocalCloud

pytestmark = pytest.mark.acceptance

_QUERIES = re.findall(r"```sql\n(.*?)```", Path("docs/captions-in-sql.md").read_text(), re.DOTALL)


def test_the_page_has_queries() -> None:
    """The page has at least 12 queries, so the next test does not pass for lack of queries."""
    assert len(_QUERIES) >= 12


@pytest.mark.parametrize("query", _QUERIES, ids=range(len(_QUERIES)))
def test_each_query_runs_as_the_reader(cloud: LocalCloud, query: str) -> None:
    """Postgres accepts every query of the page with the rights of the reader role."""
    with psycopg.connect(cloud.stack.environment["DATABASE_URL"]) as connection:
        connection.execute(query.encode())


def test_the_reader_cannot_write(cloud: LocalCloud) -> None:
    """Control: the reader role has no right to delete rows."""
    with (
        psycopg.connect(cloud.stack.environment["DATABASE_URL"]) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
    ):
        connection.execute("DELETE FROM captions")
