"""`dropline search` with a real Postgres."""

import json

import pytest

from cli import search as command
from cli.exit_codes import ExitCode
from db.session import Database
from dropline.contract import ObjectVersion, TaskRequest
from tests.support.rows import caption_object, caption_row, drop, fail_object
from tests.support.shell import BUCKET, HOSTILE, SHOWN, run


def version(name: str, generation: int = 1) -> ObjectVersion:
    return ObjectVersion(BUCKET, name, generation)


def names(*arguments: str) -> list[str]:
    """The objects of the JSON, in its order."""
    return [row["object_name"] for row in json.loads(run("search", *arguments, "--json").stdout)]


@pytest.fixture
def captions(database: Database) -> Database:
    """Five captions, the newest last; one of them overwritten, and a failed row."""
    for name, words in (
        ("cats/1.jpg", "a red cat"),
        ("cats/2.jpg", "a blue cat on a car"),
        ("cars/1.jpg", "a red car"),
        ("cars/2.jpg", "two red cars"),
    ):
        caption_object(database, version(name), words)
    caption_object(database, version("cars/3.jpg"), "a red car that is overwritten")
    caption_object(database, version("cars/3.jpg", 2), "a bus")
    fail_object(database, version("cars/red.jpg"), "not_an_image", "a red car")
    return database


@pytest.mark.usefixtures("captions")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("red",), ["cars/2.jpg", "cars/1.jpg", "cats/1.jpg"]),
        (("red car",), ["cars/2.jpg", "cars/1.jpg"]),
        (("car -red",), ["cats/2.jpg"]),
        (("bus or cat",), ["cars/3.jpg", "cats/2.jpg", "cats/1.jpg"]),
        (("red", "--prefix", "cats/"), ["cats/1.jpg"]),
        (("red", "--limit", "1"), ["cars/2.jpg"]),
        (("red", "--bucket", "another"), []),
        (("red", "--task", "caption"), ["cars/2.jpg", "cars/1.jpg", "cats/1.jpg"]),
        (("red", "--task", "od"), []),
    ],
)
def test_the_newest_captions_with_the_words(arguments: tuple[str, ...], expected: list[str]) -> None:
    """Words as for a search engine, and filters; neither overwritten nor failed rows."""
    assert names(*arguments) == expected


def test_each_task_of_an_object_is_found(database: Database) -> None:
    """The task is in the table, since an object may have several answers."""
    with database.transaction() as connection:
        row_id = drop(connection, version("a.jpg"), TaskRequest.parse("<OD>"))
    caption_row(database, row_id, "car, wheel")
    caption_object(database, version("b.jpg"), "a car")
    assert names("car", "--task", "<OD>") == ["a.jpg"]
    shown = run("search", "car").stdout
    assert "<OD>" in shown
    assert f"gs://{BUCKET}/b.jpg" in shown


def test_the_best_matches_come_first(captions: Database) -> None:
    """With --ranked a caption that has the words twice comes before newer ones."""
    caption_object(captions, version("cars/4.jpg"), "a red car beside a red car")
    caption_object(captions, version("cars/5.jpg"), "a red car")
    assert names("red car", "--ranked")[0] == "cars/4.jpg"
    assert names("red car")[0] == "cars/5.jpg"
    assert len(names("red car", "--ranked", "--limit", "2")) == 2


@pytest.mark.usefixtures("captions")
def test_a_long_answer_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """No caption is lost or doubled at the end of a page."""
    monkeypatch.setattr(command, "_PAGE", 1)
    assert names("red", "--limit", "3") == ["cars/2.jpg", "cars/1.jpg", "cats/1.jpg"]
    assert names("red", "--limit", "2") == ["cars/2.jpg", "cars/1.jpg"]


def test_a_caption_is_shown_as_text(database: Database) -> None:
    """A caption is the model's, and may have signs that a terminal acts on."""
    caption_object(database, version("a.jpg"), f"zebra {HOSTILE}")
    shown = run("search", "zebra").stdout
    assert SHOWN in shown
    assert "\x1b" not in shown


@pytest.mark.usefixtures("database")
def test_no_match_is_no_error() -> None:
    """The note is on standard error, and names the words."""
    result = run("search", "zebra")
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "")
    assert "no caption has 'zebra'" in result.stderr


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((" ",), "the search has no words"),
        (("cat", "--task", "nonsense"), "no task of Florence-2"),
        (("a", "--limit", "0"), "limit"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and the reason."""
    result = run("search", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert told in result.stderr
