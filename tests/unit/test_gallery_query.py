"""Addresses of the list: what they may say, and that they lead back to the same list."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import Status
from gallery.page_query import PageQuery


def read_back(url: str) -> PageQuery:
    """The query in an address."""
    return PageQuery.read(dict(parse_qsl(urlsplit(url).query)))


@given(st.dictionaries(st.sampled_from([*PageQuery.__dataclass_fields__, "else"]), st.text(max_size=30)))
def test_an_address_leads_back_to_its_list(values: dict[str, str]) -> None:
    """Whatever the values are, the list's own address has the same rows."""
    query = PageQuery.read(values)
    assert read_back(query.url("/", query.cursor)) == query
    assert query.before is None or 0 <= query.before < 2**63


@pytest.mark.parametrize(
    "values",
    [
        {"status": "hidden"},
        {"task": "<NO_TASK>"},
        {"cursor": "-1"},
        {"cursor": "²"},
        {"cursor": "9" * 30},
        {"cursor": "1 or 1=1"},
    ],
)
def test_values_that_no_row_has_are_left_out(values: dict[str, str]) -> None:
    """A person who edits an address gets the list."""
    assert PageQuery.read(values) == PageQuery()


@pytest.mark.parametrize("task", ["od", "OD", "<OD>", " <od> "])
def test_a_task_is_written_as_in_the_commands(task: str) -> None:
    """The filter of the page accepts each spelling, and its own address has one."""
    assert PageQuery.read({"task": task}).search().task == "<OD>"
    assert PageQuery.read({"task": task}).url("/") == "/?task=%3COD%3E"


def test_the_list_has_no_pictures_of_the_past() -> None:
    """Overwritten and deleted pictures are found by their filter."""
    assert set(Status) - set(PageQuery().search().statuses) == {Status.SUPERSEDED, Status.DELETED}
    assert PageQuery.read({"status": "deleted"}).search().statuses == (Status.DELETED,)


def test_a_list_at_another_place_is_no_filtered_one() -> None:
    """The words for an empty list depend on it."""
    assert not PageQuery.read({"cursor": "7"}).is_filtered
    assert PageQuery.read({"q": "cat"}).is_filtered
