"""Boxes and polygons as values; the forms of a result are tested with the page's regions."""

from dropline.regions import Box, Polygon, regions_of


def test_boxes_and_polygons_are_values() -> None:
    """Equal results have equal values, which can be elements of a set."""
    result = {
        "bboxes": [[1, 2, 3, 4]],
        "bboxes_labels": ["cat"],
        "polygons": [[[0, 0, 9, 0, 9, 9], [20, 20, 29, 20, 29, 29]]],
        "polygons_labels": ["dog"],
    }
    parts = (((0.0, 0.0), (9.0, 0.0), (9.0, 9.0)), ((20.0, 20.0), (29.0, 20.0), (29.0, 29.0)))
    assert list(regions_of(result)) == [Box(1, 2, 3, 4, "cat"), Polygon(parts, "dog")]
    assert len({*regions_of(result), *regions_of(result)}) == 2


def test_a_box_has_the_outline_of_its_corners() -> None:
    """Clockwise from the left upper corner."""
    assert Box(1, 2, 3, 4).outlines == (((1, 2), (3, 2), (3, 4), (1, 4)),)
