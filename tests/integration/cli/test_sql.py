"""`dropline sql` with a real Postgres, and a login with more rights than the command may use."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db.session import Database
from local_emulators.ports import free_ports
from tests.support.rows import caption_object
from tests.support.shell import G1, HOSTILE, SHOWN, run


def test_sql_as_table_json_and_csv(database: Database) -> None:
    """The same rows in three formats; JSON and CSV have the unescaped values."""
    caption_object(database, G1, HOSTILE)
    statement = "SELECT object_name, caption, NULL AS nothing, 100 % 7 AS rest FROM current_captions"
    assert SHOWN in run("sql", statement).stdout
    expected = {"object_name": "a.jpg", "caption": HOSTILE, "nothing": None, "rest": 2}
    assert json.loads(run("sql", statement, "--json").stdout) == [expected]
    assert run("sql", statement, "--csv").stdout == f'object_name,caption,nothing,rest\na.jpg,"{HOSTILE}",,2\n'


def test_sql_shows_lists_of_any_type() -> None:
    """Arrays of times and numbers are text in a table and in CSV."""
    statement = "SELECT ARRAY[interval '5 s'] AS a, ARRAY[1.5] AS b, ARRAY[timestamptz '2026-01-02 00:00Z'] AS c"
    assert '["00:00:05"]' in run("sql", statement).stdout
    assert '"[""00:00:05""]","[""1.5""]"' in run("sql", statement, "--csv").stdout


def test_sql_json_loses_nothing() -> None:
    """Every value of Postgres arrives as valid JSON: equal names, NaN, bytes, infinite dates, months, digits."""
    values = {
        "1 AS a": 1,
        "2 AS a": 2,
        "float8 'NaN' AS nan": "NaN",
        "float4 '-Infinity' AS low": "-Infinity",
        "numeric 'Infinity' AS high": "Infinity",
        "1.50::numeric AS exact": "1.50",
        "9223372036854775807 AS big": 9223372036854775807,
        "'\\x00ff'::bytea AS bytes": "\\x00ff",
        "timestamptz 'infinity' AS forever": "infinity",
        "date '0044-03-15 BC' AS ides": "0044-03-15 BC",
        "time '24:00' AS midnight": "24:00:00",
        "interval '1 month 2 days' AS period": "1 mon 2 days",
        "int4range(1, 4) AS span": "[1,4)",
        "ARRAY[[1.0, 'NaN'], [NULL, 2]]::numeric[] AS many": [["1.0", "NaN"], [None, "2"]],
        "ARRAY['-infinity'::date] AS days": ["-infinity"],
        "ROW(1, 'x') AS both": "(1,x)",
        "NULL AS nothing": None,
    }
    shown = run("sql", "SELECT " + ", ".join(values), "--json")
    assert (shown.stderr, shown.exit_code) == ("", ExitCode.OK)
    names = [each.rpartition(" ")[2] for each in values]
    names[1] = "a_2"
    found = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert found == [dict(zip(names, values.values(), strict=True))]


def test_sql_json_keeps_the_text_of_json() -> None:
    """Values of json and jsonb keep equal keys and all digits; the output is ASCII."""
    shown = run(
        "sql",
        """SELECT json '{"k": 1, "k": 2}' AS j, jsonb '["ü\u202e", 0.10000000000000000001]' AS b""",
        "--json",
    )
    assert '"j": {"k": 1, "k": 2}' in shown.stdout
    assert "0.10000000000000000001" in shown.stdout
    assert shown.stdout.isascii()
    assert json.loads(shown.stdout)[0]["b"][0] == "ü\u202e"


def test_sql_shows_rows_without_columns() -> None:
    """A statement may return rows that have no column."""
    assert json.loads(run("sql", "SELECT FROM generate_series(1, 2)", "--json").stdout) == [{}, {}]


def test_sql_shows_every_column_of_the_view(database: Database) -> None:
    """Rows that are too wide for a table have a line per column."""
    caption_object(database, G1, HOSTILE)
    shown = run("sql", "TABLE current_captions").stdout
    assert "row 1 of 1" in shown
    assert SHOWN in shown


def test_sql_finds_a_misspelt_word(database: Database) -> None:
    """The query of docs/captions-in-sql.md finds a triangle by a misspelt word."""
    caption_object(database, G1, "a red circle and a blue triangle")
    page = Path("docs/captions-in-sql.md").read_text()
    query = next(each for each in page.split("```") if each.startswith("sql\n") and "word_similarity" in each)
    assert "blue triangle" in run("sql", query.removeprefix("sql\n")).stdout


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE captions SET caption = 'x'",
        "DELETE FROM captions",
        "WITH gone AS (DELETE FROM captions RETURNING id) SELECT * FROM gone",
        "DROP TABLE captions",
        "SELECT nextval(pg_get_serial_sequence('captions', 'id'))",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT 1; DELETE FROM captions",
        "COMMIT; DELETE FROM captions",
        "DO $$ BEGIN COMMIT; DELETE FROM captions; END $$",
        "COPY captions TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_sql_changes_nothing(database: Database, statement: str) -> None:
    """A statement that writes gets exit code 2 and one line of error, even with the login of a superuser."""
    caption_object(database, G1)
    result = run("sql", statement)
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert result.stderr.count("\n") == 1
    with database.transaction() as connection:
        assert connection.execute(text("SELECT caption FROM captions")).scalars().all() == ["a red circle"]


def test_sql_runs_as_the_reader() -> None:
    """A login with more rights acts as the reader."""
    assert json.loads(run("sql", "SELECT current_user AS me", "--json").stdout) == [{"me": "dropline_reader"}]


def test_sql_prefers_the_readers_url(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """DATABASE_URL, which the stack's `env` file sets to the reader's login, comes first."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DROPLINE_DATABASE__URL", f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/x")
    assert run("sql", "SELECT 1").exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"; at character 1'),
        ("SELECT nothing FROM captions", 'column "nothing" does not exist'),
        ("SELECT 1/0", "division by zero"),
        ("", "nothing to run"),
        ("/* a comment */", "nothing to run"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("/* a comment */ LISTEN captions", "`dropline watch`"),
    ],
)
def test_sql_mistakes_are_one_line(statement: str, told: str) -> None:
    """A mistake gets exit code 2 and one line with the message of Postgres, without the marked statement."""
    result = run("sql", statement)
    assert result.exit_code == ExitCode.USAGE
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_sql_gives_up_in_time() -> None:
    """Postgres ends a statement after `--timeout`."""
    result = run("sql", "SELECT pg_sleep(3600)", "--timeout", 0.1)
    assert result.exit_code == ExitCode.USAGE
    assert "took longer than 0.1 s; raise --timeout" in result.stderr


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("status",), ("wait", G1.uri), ("watch",)])
def test_a_postgres_that_is_away_is_told(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable Postgres is one line of error without a password, and exit code 4."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", f"postgresql://u:hunter2@127.0.0.1:{free_ports(1)[0]}/x")
    result = run(*command)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Postgres" in result.stderr
    assert "hunter2" not in result.output
    assert result.stderr.count("\n") == 1
