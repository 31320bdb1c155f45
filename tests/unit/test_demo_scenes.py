"""The scenes of the demo model's training: the drawing and the answers agree."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.demo_model.batches import NO_ITEM, cell_targets, small_image
from tools.demo_model.build import SHAPE
from tools.demo_model.drawing import draw
from tools.demo_model.scenes import (
    LOCATION_BINS,
    LOCATION_STEP,
    SHAPES,
    Background,
    Box,
    Item,
    Scene,
    Shape,
    answer,
    location_bin,
    sample_scene,
)

PLAIN = Background("plain", (128, 128, 128), (128, 128, 128), angle=0.0, period=0.1, seed=0)
seeds = st.integers(min_value=0, max_value=2**32)


def _item(colour: str, shape: Shape = "circle", column: int = 0, box: Box = (0.1, 0.2, 0.3, 0.5)) -> Item:
    return Item(colour=colour, shape=shape, size="small", column=column, box=box, rgb=(255, 0, 0))


def _scene(*items: Item) -> Scene:
    return Scene(items=items, background=PLAIN, aspect=4 / 3)


@given(seeds)
def test_a_seed_names_one_scene(seed: int) -> None:
    """The same seed gives the same scene, so an evaluation is repeatable."""
    assert sample_scene(random.Random(seed)) == sample_scene(random.Random(seed))


@given(seeds)
def test_items_lie_apart_inside_the_image_in_reading_order(seed: int) -> None:
    """A scene has up to three items inside the image, without overlap, with centres clearly from left to right."""
    items = sample_scene(random.Random(seed)).items
    assert 1 <= len(items) <= 3
    assert all(0 <= edge <= 1 for item in items for edge in item.box)
    centres = [(item.box[0] + item.box[2]) / 2 for item in items]
    assert all(right - left > 0.1 for left, right in itertools.pairwise(centres))
    for index, first in enumerate(items):
        for second in items[index + 1 :]:
            beside = first.box[2] < second.box[0]
            above = first.box[3] < second.box[1] or second.box[3] < first.box[1]
            assert beside or above


@given(seeds)
def test_words_of_place_follow_the_thirds(seed: int) -> None:
    """Left, middle and right are the third of the image with the item's centre."""
    for item in sample_scene(random.Random(seed)).items:
        assert item.column == int((item.box[0] + item.box[2]) / 2 * 3)


@given(st.floats(min_value=0.0, max_value=1.0))
def test_a_location_token_is_within_a_hundredth(value: float) -> None:
    """The location token exists and is at most half a step from the coordinate."""
    found = location_bin(value)
    assert 0 <= found < LOCATION_BINS
    assert abs((found + 0.5) / LOCATION_BINS - value) <= (LOCATION_STEP / 2 + 1) / LOCATION_BINS


def test_captions_enumerate_with_articles() -> None:
    """Items are listed with article, commas and a final "and"."""
    scene = _scene(_item("red"), _item("orange", "star", column=1), _item("blue", "square", column=2))
    assert answer(scene, "<CAPTION>") == "a red circle, an orange star and a blue square"
    assert answer(_scene(_item("orange")), "<CAPTION>") == "an orange circle"


def test_detailed_captions_add_size_and_place() -> None:
    """The detailed caption has the size and the place of each item."""
    scene = _scene(_item("red"), _item("black", "triangle", column=2))
    expected = "a small red circle on the left and a small black triangle on the right"
    assert answer(scene, "<DETAILED_CAPTION>") == expected


def test_detection_gives_labels_and_location_tokens() -> None:
    """`<OD>` has Florence-2's form: label, then x0, y0, x1, y1."""
    assert answer(_scene(_item("red")), "<OD>") == "red circle<loc_110><loc_210><loc_310><loc_510>"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_drawn_shape_fills_its_box(shape: Shape) -> None:
    """The coloured pixels reach the four sides of the item's box, to within a pixel."""
    image = np.asarray(draw(_scene(_item("red", shape)), height=300)).astype(int)
    rows, columns = np.nonzero(image[..., 0] - image[..., 1] > 60)
    reached = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(reached - np.array([40, 60, 120, 150])).max() <= 3


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_items_stand_out_against_any_background(seed: int) -> None:
    """The pixel at an item's centre has the item's colour, also in the model's small square."""
    scene = sample_scene(random.Random(seed))
    image = small_image(scene).astype(int)
    assert image.shape == (SHAPE.image_size, SHAPE.image_size, 3)
    for item in scene.items:
        x, y = (item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2
        centre = image[int(y * SHAPE.image_size), int(x * SHAPE.image_size)]
        assert np.abs(centre - np.array(item.rgb)).max() < 60


@given(seeds)
def test_every_item_has_a_cell(seed: int) -> None:
    """The dense targets have the box of every item of the scene."""
    scene = sample_scene(random.Random(seed))
    words, boxes = cell_targets(scene, SHAPE.grid)
    targets = np.unique(boxes[words[:, 0] != NO_ITEM], axis=0)
    assert np.allclose(targets, sorted(item.box for item in scene.items))
