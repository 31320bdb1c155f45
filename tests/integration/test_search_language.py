"""The language of full-text search, and its change while captions are searched and written."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, text

from benchmarks.query_plans import plans_of
from cli.exit_codes import ExitCode
from db import search, search_language
from db.search import Search
from db.search_language import change_language
from dropline.contract import ObjectVersion
from dropline.errors import ClientError, DatabaseUnavailable, DroplineError
from local_emulators.postgres import PostgresServer
from migrations.run import downgrade, upgrade
from tests.support.engines import wait_until
from tests.support.rows import drop, record, settings_of, take
from tests.support.shell import run

#: Of the tests with many captions.
_MANY = 1_500


def captioned(connection: Connection, name: str, words: str) -> None:
    """A captioned row."""
    record(connection, take(connection, drop(connection, ObjectVersion("drops", name, 1))), words)


def found(connection: Connection, words: str) -> list[str]:
    """The names of the rows with the words, near and far."""
    near = search.newest(connection, Search(words), None, 5_000)
    return [row.object_name for row in near]


def indexes(connection: Connection) -> list[str]:
    """The indexes of words, with their definitions."""
    query = "SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'ix_caption_search_words%' ORDER BY 1"
    return [str(each).rpartition("USING ")[2] for each in connection.execute(text(query)).scalars()]


def change(database_url: str, name: str, on_step: Callable[[str], None] = lambda _step: None) -> int:
    """Change the language."""
    return change_language(settings_of(database_url), name, on_step, lambda _rows: None)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """The variables that the command reads."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def german(connection: Connection) -> Connection:
    """Captions in German."""
    captioned(connection, "1.jpg", "zwei Hunde vor einem Haus")
    captioned(connection, "2.jpg", "die Kinder spielen in den Häusern")
    return connection


def test_words_are_found_in_their_forms_after_a_change(german: Connection, database_url: str) -> None:
    """Of old captions and of new ones; the trigger splits a new caption by the new language."""
    assert found(german, "häuser -katze") == []
    assert change(database_url, "german") == 2
    assert found(german, "häuser -katze") == ["2.jpg", "1.jpg"]
    captioned(german, "3.jpg", "ein großes Haus")
    assert found(german, "häuser -katze") == ["3.jpg", "2.jpg", "1.jpg"]
    assert german.execute(text("SELECT DISTINCT language FROM caption_search")).scalars().all() == ["german"]
    assert indexes(german) == ["gin (to_tsvector('german'::regconfig, caption))"]
    assert change(database_url, "german") == 0
    assert change(database_url, "english") == 3
    assert indexes(german) == ["gin (to_tsvector('english'::regconfig, caption))"]


def test_searches_are_right_at_each_step_and_a_change_that_was_cut_short_goes_on(
    german: Connection, database_url: str
) -> None:
    """Each step is cut short in turn. A search has the captions of the old language, or those of the new one."""
    seen: list[tuple[str, list[str]]] = []

    def stop_at(number: int) -> Callable[[str], None]:
        def stop(step: str) -> None:
            seen.append((step, found(german, "häuser -katze")))
            if len(seen) == number:
                raise DroplineError("cut short")

        return stop

    steps = 0
    while True:
        seen.clear()
        steps += 1
        try:
            change(database_url, "german", stop_at(steps))
        except DroplineError:
            continue
        break
    assert steps > 3
    assert found(german, "häuser -katze") == ["2.jpg", "1.jpg"]
    assert indexes(german) == ["gin (to_tsvector('german'::regconfig, caption))"]


def test_a_search_in_the_new_language_does_not_wait_for_the_rewrite(german: Connection, database_url: str) -> None:
    """Rows whose words are still those of the old language are found by the new one."""
    at_step: dict[str, list[str]] = {}
    change(database_url, "german", lambda step: at_step.update({step: found(german, "häuser -katze")}))
    assert at_step["an index of the words in german is built"] == []
    assert at_step["searches are in german from now on"] == []
    assert at_step["the words of the captions are written anew"] == ["2.jpg", "1.jpg"]


def test_a_row_that_is_locked_is_left_for_the_trigger(
    german: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewrite waits for no other transaction, in batches of one row, and a row left out is still found."""
    monkeypatch.setattr(search_language, "_BATCH", 1)
    with psycopg.connect(database_url) as other:

        def lock(step: str) -> None:
            if step == "the words of the captions are written anew":
                other.execute("SELECT FROM caption_search ORDER BY id LIMIT 1 FOR UPDATE")
            elif step == "the index of the language before is dropped":
                other.rollback()

        assert change(database_url, "german", lock) == 1
    assert found(german, "häuser -katze") == ["2.jpg", "1.jpg"]
    assert change(database_url, "german") == 1


_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = 'caption_search'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1
"""
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_downgrade_that_waited_too_long_for_a_lock_goes_on(postgres_server: PostgresServer) -> None:
    """Its first steps are committed when a reader of the setting holds it up. Begun anew, it rewrites no row."""
    postgres_server.create_database("language_down")
    url = postgres_server.url_for("language_down")
    upgrade(url, "0020")
    file = "SELECT pg_relation_filenode('caption_search')"
    with (
        psycopg.connect(url) as reader,
        psycopg.connect(url, autocommit=True) as other,
        ThreadPoolExecutor() as pool,
    ):
        reader.execute("SELECT FROM search_language")
        migration = pool.submit(downgrade, url, "0019")
        wait_until(lambda: other.execute(_WAITING).fetchone() == (1,))
        wait_until(lambda: other.execute(_WAITING).fetchone() == (0,))
        rewritten = other.execute(file).fetchone()
        assert other.execute(_COLUMNS).fetchall() == [("caption",), ("id",), ("words",)]
        reader.rollback()
        migration.result(120)
        assert other.execute(file).fetchone() == rewritten
        assert other.execute("SELECT to_regclass('search_language')").fetchone() == (None,)
    upgrade(url)


def test_a_second_change_at_the_same_time_is_refused(database_url: str) -> None:
    """Two changes would drop each other's index."""
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(7413905212)")
        with pytest.raises(ClientError, match="another change"):
            change(database_url, "german")


def test_an_old_caption_is_found_by_the_index_of_the_new_language(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's search beyond the window uses the new index, as a search in SQL does."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        superuser.execute(
            """INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at)
               SELECT 'drops', n || '.jpg', 1, '<CAPTION>', 'captioned',
                      CASE WHEN n = 7 THEN 'alte Bäume' ELSE 'ein Tier ' || n END, 'demo', now()
               FROM generate_series(1, %s) AS n""",
            [_MANY],
        )
    change(database_url, "german")
    monkeypatch.setattr("db.word_search._WINDOW", 50)
    plans = plans_of(connection, lambda: search.newest(connection, Search("baum"), None, 10))
    assert found(connection, "baum -katze") == ["7.jpg"]
    assert any("ix_caption_search_words" in plan.indexes for plan in plans)


def test_the_command_shows_and_changes_the_language(german: Connection, database_url: str) -> None:
    """Without a name it shows the language, and those that the server has."""
    shown = json.loads(run("search-language", "--json").stdout)
    assert shown["language"] == "english"
    assert {"german", "simple"} <= set(shown["known"])
    assert "english" in run("search-language").stdout
    assert json.loads(run("search-language", "german", "--json").stdout) == {"language": "german", "rewritten": 2}
    assert "searched in german; 0 were" in run("search-language", "german").stdout


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize("name", ["klingon", "german'; DROP TABLE captions; --", "German"])
def test_an_unknown_language_is_refused_with_those_that_are_known(name: str) -> None:
    """Exit code 2; nothing has changed."""
    result = run("search-language", name)
    assert result.exit_code == ExitCode.USAGE
    assert "german" in result.stderr
    assert "simple" in result.stderr
    assert json.loads(run("search-language", "--json").stdout)["language"] == "english"


def test_a_login_without_the_right_is_told_which_one_it_needs(
    postgres_server: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function's login may not build an index."""
    with psycopg.connect(postgres_server.url) as admin:
        admin.execute(sql.SQL("ALTER ROLE dropline_ingest LOGIN PASSWORD 'test'"))
    url = postgres_server.url_for(database_url.rpartition("/")[2], "dropline_ingest", "test")
    monkeypatch.setenv("DROPLINE_DATABASE__URL", url)
    result = run("search-language", "german")
    assert result.exit_code == ExitCode.FAILED
    assert "login of the migrations" in " ".join(result.stderr.split())


def test_a_server_that_is_away_is_named(database_url: str) -> None:
    """As in every command."""
    away = settings_of(database_url.replace(":" + database_url.rpartition(":")[2].partition("/")[0], ":1"))
    with pytest.raises(DatabaseUnavailable):
        change_language(away, "german", lambda _step: None, lambda _rows: None)
