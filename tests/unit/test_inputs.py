"""The inputs of the cost and scaling pages: the sources, and the errors of a wrong file."""

import re
from pathlib import Path

import pytest

from tools.inputs import INPUTS, InputError, Quoted, load_inputs

ROOT = Path(__file__).resolve().parents[2]
USERS = ("tools/cloud_costs.py", "tests/unit/test_cloud_costs.py", "tests/unit/test_scaling_page.py")
QUOTED = [
    pytest.param(entry, id=name)
    for group in (load_inputs().deployed, load_inputs().measured)
    for name, entry in group.items()
]


def _words(text: str) -> str:
    return " ".join(text.split())


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


@pytest.mark.parametrize("entry", QUOTED)
def test_a_quoted_file_has_the_quoted_text(entry: Quoted) -> None:
    """Terraform's defaults, settings and measured figures equal the inputs."""
    assert _words(entry.says) in _words((ROOT / entry.file).read_text())


@pytest.mark.parametrize("entry", QUOTED)
def test_the_quoted_text_has_the_value(entry: Quoted) -> None:
    """No value differs from the quotation; the quotation may give memory in MiB or MB."""
    found = _numbers(entry.says)
    assert entry.value in found | {number / 1024 for number in found}


@pytest.mark.parametrize("group", ["deployed", "measured", "assumed"])
def test_every_input_is_used(group: str) -> None:
    """A table or a figure in the text of a page is computed from each input."""
    code = "".join((ROOT / path).read_text() for path in USERS)
    unused = [name for name in getattr(load_inputs(), group) if f'"{name}"' not in code]
    assert unused == []


def test_every_alert_on_a_metric_is_counted() -> None:
    """The number of conditions is that of Terraform's alerts on metrics, by threshold or in PromQL.

    The page's deployment has no gallery.
    """
    module = ROOT / "terraform" / "modules" / "observability"
    text, of_gallery = re.subn(
        r"^  measured_gallery = .*?^  }$", "", (module / "main.tf").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert of_gallery == 1
    thresholds = re.findall(r"^\s+aligner\s+= ", text, re.MULTILINE)
    queries = re.findall(r"^\s+query\s+= ", (module / "flow.tf").read_text(), re.MULTILINE)
    assert load_inputs().values()["alert_conditions"] == len(thresholds) + len(queries)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error has the path and the next step."""
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read .*: give the path of a TOML file"):
        load_inputs(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """The error has the line."""
    path = tmp_path / "broken.toml"
    path.write_text("[deployed\n")
    with pytest.raises(InputError, match=r"broken\.toml is not TOML: .*line 1"):
        load_inputs(path)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[assumed.cold_start_s]", "[assumed.cold_start]", r"assumed\.cold_start_s is missing"),
        ("[assumed.cold_start_s]", "[assumed.cold_start]", r"assumed\.cold_start is unknown"),
        ("value = 60\n", "value = -60\n", r"assumed\.cold_start_s\.value: Input should be greater than"),
        ("value = 60\n", 'value = "soon"\n', r"assumed\.cold_start_s\.value: Input should be a valid number"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """The error names each missing, unknown or wrong entry with the problem."""
    path = tmp_path / "inputs.toml"
    path.write_text(INPUTS.read_text().replace(old, new))
    with pytest.raises(InputError, match=problem):
        load_inputs(path)


def test_names_are_unique_across_the_groups() -> None:
    """A name has a single number across all groups."""
    inputs = load_inputs()
    assert len(inputs.values()) == len(inputs.deployed) + len(inputs.measured) + len(inputs.assumed)
