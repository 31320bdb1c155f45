"""Regions of answers: each form that Florence-2's processor gives, and whatever else a result may hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery.regions import MAX_REGIONS, Region, regions_of

_SQUARE = ((1.0, 2.0), (3.0, 2.0), (3.0, 4.0), (1.0, 4.0))
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
_KEYS = ("bboxes", "labels", "quad_boxes", "polygons", "bboxes_labels", "polygons_labels")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, []),
        ({}, []),
        ({"bboxes": [[1, 2, 3, 4]], "labels": ["cat"]}, [Region("cat", (_SQUARE,))]),
        ({"bboxes": [[1, 2, 3, 4]], "labels": []}, [Region("", (_SQUARE,))]),
        ({"quad_boxes": [[1, 2, 3, 2, 3, 4, 1, 4]], "labels": ["text"]}, [Region("text", (_SQUARE,))]),
        (
            {"polygons": [[[1, 2, 3, 2, 3, 4, 1, 4], [1, 2, 3, 2, 3, 4, 1, 4]]], "labels": [""]},
            [Region("", (_SQUARE, _SQUARE))],
        ),
        (
            {
                "bboxes": [[1, 2, 3, 4]],
                "bboxes_labels": ["cat"],
                "polygons": [[[1, 2, 3, 2, 3, 4, 1, 4]]],
                "polygons_labels": ["dog"],
            },
            [Region("cat", (_SQUARE,)), Region("dog", (_SQUARE,))],
        ),
        ({"bboxes": [[1, 2, 3], "box", [1, 2, None, 4], [1, 2, 3, 4]], "labels": ["a", "b", "c", 4]},
         [Region("", (_SQUARE,))]),
        ({"polygons": [[[1, 2, 3, 2]], [[1, 2, 3, 2, 5]], 7]}, []),
    ],
)  # fmt: skip
def test_each_form_of_a_result(result: dict[str, Any] | None, expected: list[Region]) -> None:
    """Boxes, quadrilaterals and polygons become outlines with labels; what is none of these is left out."""
    assert regions_of(result) == expected


def test_a_page_has_a_bounded_number_of_regions() -> None:
    """A result with thousands of boxes makes no page of megabytes."""
    assert len(regions_of({"bboxes": [[1, 2, 3, 4]] * 5000})) == MAX_REGIONS


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(_KEYS, _JSON)))
def test_no_result_is_an_error(result: dict[str, Any]) -> None:
    """Whatever JSON the column holds, the page is made."""
    for region in regions_of(result):
        assert region.outlines
        assert all(len(outline) >= 3 for outline in region.outlines)
        assert region.top in [point for outline in region.outlines for point in outline]
