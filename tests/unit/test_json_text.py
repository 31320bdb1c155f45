"""JSON documents of query results."""

import pytest

from cli.json_text import rows_as_json, unique_names


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["a_2", "a", "a", "a_2"], ["a_2", "a", "a_3", "a_2_2"]),
        (["?column?", "?column?"], ["?column?", "?column?_2"]),
    ],
)
def test_equal_names_of_columns_get_a_number(columns: list[str], names: list[str]) -> None:
    """Every column has a key of its own, and a column whose name is unique keeps the name."""
    assert unique_names(columns) == names


def test_no_row_is_an_empty_array() -> None:
    """A result without rows is a document too."""
    assert rows_as_json(["a"], []) == "[]"
