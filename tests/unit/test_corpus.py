"""Every file of the corpus gets its right result from the real decoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dropline.settings import ImageSettings
from tests.corpus.__main__ import main
from tests.corpus.expected import SIDE, Case, Shown, Square, difference
from tests.corpus.outcome import fault
from tests.corpus.scenes import SIZE, scene
from tests.corpus.table import CASES

_LIMITS = ImageSettings()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_gets_its_right_result(case: Case) -> None:
    """The file shows its scene in the right size and colours, or is refused with the right code and words."""
    assert fault(case, case.make(), _LIMITS) == ""


def test_every_file_has_a_name_of_its_own() -> None:
    """At least 500 files, and no two have one name."""
    assert len(CASES) == len({case.name for case in CASES}) >= 500


def _gamma(square: Square, exponent: float) -> Square:
    return np.rint(255 * (square / 255) ** exponent).astype(np.uint8)


_WRONG: dict[str, Callable[[Square], Square]] = {
    "inverted": lambda square: 255 - square,
    "black": np.zeros_like,
    "white": lambda square: np.full_like(square, 255),
    "grey": lambda square: np.full_like(square, 150),
    "mirrored": lambda square: square[:, ::-1],
    "upside down": lambda square: square[::-1],
    "half a turn": lambda square: square[::-1, ::-1],
    "a quarter turn": np.rot90,
    "transposed": lambda square: square.transpose(1, 0, 2),
    "linear light shown as sRGB": lambda square: _gamma(square, 2.2),
    "sRGB shown as linear light": lambda square: _gamma(square, 1 / 2.2),
    "half missing": lambda square: np.concatenate([square[: SIDE // 2], square[SIDE // 2 :] * 0]),
}


@pytest.mark.parametrize("wrong", _WRONG)
@pytest.mark.parametrize("name", ["S", "G", "star", "black star"])
def test_the_comparison_sees(name: str, wrong: str) -> None:
    """A picture that is wrong in this way is different from the right one, also at a wide tolerance."""
    square = np.asarray(scene(name).resize((SIDE, SIDE)))
    right = Shown(name, tolerance=16)
    assert difference(square, SIZE, right) == ""
    assert difference(_WRONG[wrong](square), SIZE, right) != ""


def test_the_comparison_sees_colours_and_sizes() -> None:
    """Red and blue exchanged, lost colours and a wrong size are differences, also at the widest tolerance."""
    square = np.asarray(scene("S").resize((SIDE, SIDE)))
    right = Shown("S", tolerance=45)
    assert difference(square, SIZE, right) == ""
    assert "red circle" in difference(square[..., ::-1], SIZE, right)
    grey = np.repeat(square.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert "red circle" in difference(grey, SIZE, right)
    assert "size" in difference(square, (40, 30), right)


def test_a_free_ground_must_contrast() -> None:
    """Where the ground may have any colour, an empty page and a page without the star are differences."""
    right = Shown("star", ground=None)
    for ground in ((90, 90, 90), (0, 0, 0), (150, 150, 150)):
        assert difference(np.asarray(scene("star", ground).resize((SIDE, SIDE))), SIZE, right) == ""
    assert difference(np.full((SIDE, SIDE, 3), 250, np.uint8), SIZE, right) != ""
    assert difference(np.full((SIDE, SIDE, 3), 90, np.uint8), SIZE, right) != ""


def test_the_files_are_written_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes each file and a table of the right results; a second run writes equal bytes."""
    monkeypatch.setattr("tests.corpus.__main__.CASES", CASES[::40])
    assert main([str(tmp_path / "a")]) == main([str(tmp_path / "b")]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert set(written) == {case.name for case in CASES[::40]} | {"table.tsv"}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert main([]) == 2
