"""Generated tables inside hand-written pages."""

from pathlib import Path

import pytest

from tools.generated_tables import entries_table, markdown_table, update, with_tables
from tools.inputs import Assumed, InputError

PAGE = "before\n<!-- table a -->\nold\n<!-- end a -->\nbetween\n<!-- table b-c -->\n\n<!-- end b-c -->\nafter\n"


def test_a_table_has_its_rule_and_its_alignment() -> None:
    """A column is aligned right if the head ends with a colon; a pipe in a cell is escaped."""
    assert markdown_table(["a", "b:"], [["x|y", "1"]]) == "| a | b |\n|---|---:|\n| x\\|y | 1 |"


def test_an_entry_is_a_row_of_its_fields() -> None:
    """Small and large numbers are written out, without an exponent and without trailing zeros."""
    entries = {"one_cent": Assumed(value=0.0000004, unit="s", why="a"), "b": Assumed(value=1500, unit="", why="c")}
    assert entries_table(entries).splitlines() == [
        "| name | value | unit | why |",
        "|---|---|---|---|",
        "| one cent | 0.0000004 | s | a |",
        "| b | 1,500 |  | c |",
    ]


def test_only_the_tables_change() -> None:
    """The hand-written text around the tables is kept."""
    made = with_tables(PAGE, {"a": "new", "b-c": "|x|"})
    assert made == PAGE.replace("old", "new").replace("-->\n\n<!--", "-->\n|x|\n<!--")
    assert with_tables(made, {"a": "new", "b-c": "|x|"}) == made


@pytest.mark.parametrize("tables", [{"a": "new"}, {"a": "new", "b-c": "", "d": ""}, {}])
def test_page_and_tables_must_agree(tables: dict[str, str]) -> None:
    """A table without a marker, or a marker without a table, is an error with both lists."""
    with pytest.raises(InputError, match=r"the page has the tables \['a', 'b-c'\], but "):
        with_tables(PAGE, tables)


def test_a_table_without_an_end_is_refused(tmp_path: Path) -> None:
    """The error comes before any change, so the page stays unchanged."""
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("<!-- end a -->", ""))
    with pytest.raises(InputError, match="the table a has no end"):
        update(page, {"a": "new", "b-c": ""})
    assert "old" in page.read_text()
