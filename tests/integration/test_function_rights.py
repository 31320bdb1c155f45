"""Functions with the rights of their owner, and logins without these rights."""

import psycopg
import pytest
from psycopg import errors

from db.session import Database
from tests.support.logins import Login
from tests.support.rows import G1, caption_object

OPEN_TO_ALL = """
    SELECT proname FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prosecdef AND has_function_privilege('public', oid, 'EXECUTE')
"""


def test_no_function_with_its_owners_rights_is_open_to_all(database_url: str) -> None:
    """Postgres lets each login call a new function, unless a migration revokes this right."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute(OPEN_TO_ALL).fetchall() == []


@pytest.mark.parametrize("function", ["copy_caption", "erase_caption_history"])
def test_a_trigger_function_serves_no_table_of_a_login(
    database: Database, login: Login, database_url: str, function: str
) -> None:
    """A reader with a temporary table would change rows of its choice. The triggers of `captions` still fire."""
    caption_object(database, G1)
    with psycopg.connect(database_url) as owner:
        owner.execute("GRANT TEMPORARY ON DATABASE " + owner.info.dbname + " TO dropline_reader")
    reader = login("dropline_reader")
    reader.execute("SET default_transaction_read_only = off")
    reader.execute("CREATE TEMPORARY TABLE own (id bigint, caption text)")
    with pytest.raises(errors.InsufficientPrivilege, match=function):
        reader.execute(
            f"CREATE TRIGGER fires AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION public.{function}()".encode()
        )
    editor = login("dropline_editor")
    editor.execute("SELECT edit_caption('drops', 'a.jpg', 'Grandma, 1962')")
    assert reader.execute("SELECT caption FROM caption_search").fetchall() == [("Grandma, 1962",)]
    assert len(reader.execute("SELECT FROM caption_history").fetchall()) == 1
    with psycopg.connect(database_url) as owner:
        owner.execute("UPDATE captions SET status = 'deleted', caption = NULL, lease_until = NULL")
    assert reader.execute("SELECT FROM caption_history").fetchall() == []
