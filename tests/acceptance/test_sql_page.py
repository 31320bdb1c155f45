"""The queries of docs/captions-in-sql.md, run as the reader on the running stack."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.conftest import LocalCloud

pytestmark = pytest.mark.acceptance

_QUERIES = re.findall(r"```sql\n(.*?)```", Path("docs/captions-in-sql.md").read_text(), re.DOTALL)


def test_the_page_has_queries() -> None:
    """A dozen queries and more, so that the test below has something to run."""
    assert len(_QUERIES) >= 12


@pytest.mark.parametrize("query", _QUERIES, ids=range(len(_QUERIES)))
def test_each_query_runs_as_the_reader(cloud: LocalCloud, query: str) -> None:
    """Every query of the page is accepted by Postgres under the reader's rights."""
    with psycopg.connect(cloud.stack.environment["DATABASE_URL"]) as connection:
        connection.execute(query.encode())


def test_the_reader_cannot_write(cloud: LocalCloud) -> None:
    """Control: the role of people who ask questions has no right to change anything."""
    with (
        psycopg.connect(cloud.stack.environment["DATABASE_URL"]) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
    ):
        connection.execute("DELETE FROM captions")
