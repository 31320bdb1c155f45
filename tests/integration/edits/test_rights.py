"""The role `dropline_editor`, with a real login."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from db import object_rows
from db.session import Database
from dropline.contract import ObjectFacts, ObjectVersion, TaskRequest
from tests.support.logins import Login
from tests.support.rows import G1, caption_object

EDIT = "SELECT is_changed FROM edit_caption('drops', 'a.jpg', 'Grandma, 1962')"
PERSON = "SELECT edited_by FROM captions"


def test_an_editor_edits_reads_and_does_nothing_else(database: Database, login: Login) -> None:
    """Functions and SELECT on the captions; no table is changed directly, and no other one read."""
    caption_object(database, G1)
    editor = login("dropline_editor")
    assert editor.execute(EDIT).fetchone() == (True,)
    assert editor.execute(PERSON).fetchone() == ("dropline_editor",)
    for table in ("captions", "current_captions", "caption_search", "caption_history"):
        assert len(editor.execute(f"SELECT * FROM {table}".encode()).fetchall()) == 1
    assert editor.execute("SELECT is_changed FROM revert_caption('drops', 'a.jpg')").fetchone() == (True,)
    for statement in (
        "UPDATE captions SET caption = 'x'",
        "INSERT INTO caption_history (caption_id, caption) VALUES (1, 'x')",
        "DELETE FROM caption_history",
        "DELETE FROM captions",
        "SELECT FROM workers",
        "SELECT FROM filtered_events",
        "SELECT adopt_caption(1, 'x', now())",
        "SELECT locked_caption('drops', 'a.jpg', 1, '<CAPTION>')",
        "CREATE TABLE mine (n int)",
        "SET ROLE dropline_migrator",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            editor.execute(statement.encode())


def test_the_name_that_an_editor_gives_stands_before_the_login(database: Database, login: Login) -> None:
    """Nobody signs as another person; a service passes on the name that it has checked."""
    caption_object(database, G1)
    named = EDIT.replace("1962'", "1962', edited_by => E'Ana\\nB.'")
    editor = login("dropline_editor")
    editor.execute(named)
    assert editor.execute(PERSON).fetchone() == ("Ana B. (dropline_editor)",)
    for role in ("dropline_gallery", "dropline_ingest"):
        service = login(role)
        service.execute(named.replace("1962", role))
        assert service.execute(PERSON).fetchone() == ("Ana B.",)


@pytest.mark.parametrize("role", ["dropline_reader", "dropline_worker"])
def test_other_roles_do_not_edit(login: Login, role: str) -> None:
    """Neither those that read nor those that caption."""
    connection = login(role)
    connection.execute("SET default_transaction_read_only = off")
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(EDIT)


def test_the_search_path_of_the_caller_leads_nowhere(database: Database, login: Login, database_url: str) -> None:
    """Neither a table of the caller nor a function that stands before that of Postgres is used."""
    caption_object(database, G1)
    with psycopg.connect(database_url) as owner:
        owner.execute("GRANT TEMPORARY ON DATABASE " + owner.info.dbname + " TO dropline_editor")
        owner.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql RETURN 'epoch'::timestamptz"
        )
    editor = login("dropline_editor")
    editor.execute("CREATE TEMPORARY TABLE captions (LIKE public.captions)")
    editor.execute("SET search_path = pg_temp, public, pg_catalog")
    assert editor.execute("SELECT clock_timestamp() = 'epoch'").fetchone() == (True,)
    assert editor.execute(EDIT).fetchone() == (True,)
    assert editor.execute("SELECT count(*) FROM pg_temp.captions").fetchone() == (0,)
    assert editor.execute("SELECT edited_at > 'epoch' FROM public.captions").fetchone() == (True,)


def test_the_calls_of_the_page_run_as_an_editor(database: Database, login: Login) -> None:
    """Each statement of docs/captions-in-sql.md below `Edits`, one after the other."""
    version = ObjectVersion("dropline-drops", "photo.jpg", 1)
    caption_object(database, version)
    with database.transaction() as connection:
        read = TaskRequest.parse("<OCR>")
        object_rows.register_object(connection, version, ObjectFacts(), read, own_task=False)
    section = Path("docs/captions-in-sql.md").read_text().partition("\n## Edits\n")[2].partition("\n## ")[0]
    calls = re.findall(r"^SELECT \* FROM .*;$", section, re.MULTILINE)
    queries = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    assert (len(calls), len(queries)) == (4, 2)
    editor = login("dropline_editor")
    changed = [editor.execute(call.encode()).fetchall()[0][1] for call in calls]
    assert changed == [True] * 4
    assert [len(editor.execute(query.encode()).fetchall()) for query in queries] == [1, 3]
