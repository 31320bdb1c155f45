"""The packaged demo model: its name, and the notice beside its captions."""

from collections.abc import Iterable

#: The demo model's name: in settings, as a value of `--model`, and in the column `model` of its captions.
DEMO_MODEL = "demo"
#: Short name for the default checkpoint, as a value of `--model`.
BASE_MODEL = "base"
#: For people, wherever captions of the demo model are shown: one line, with the commands that switch.
DEMO_NOTICE = (
    "The demo model recognizes only drawn circles, squares, triangles and stars; its captions of photographs are "
    f"wrong. For photographs: dropline up --model {BASE_MODEL}, or make demo MODEL={BASE_MODEL}"
)


def demo_notice(models: Iterable[str | None]) -> str | None:
    """DEMO_NOTICE if one of the captions is the demo model's; `models` are values of the column `model`."""
    return DEMO_NOTICE if DEMO_MODEL in models else None
