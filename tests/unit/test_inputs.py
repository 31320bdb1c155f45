"""The inputs of the cost and scaling tables: where they come from, and what is said of a wrong file."""

import re
from pathlib import Path

import pytest

from tools.inputs import INPUTS, InputError, Quoted, load_inputs

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("cloud_costs", "scaling_arithmetic")
QUOTED = [
    pytest.param(entry, id=name)
    for group in (load_inputs().deployed, load_inputs().measured)
    for name, entry in group
    if isinstance(entry, Quoted)
]


def _words(text: str) -> str:
    return " ".join(text.split())


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


@pytest.mark.parametrize("entry", QUOTED)
def test_what_is_quoted_is_there(entry: Quoted) -> None:
    """Terraform's defaults, settings and measured figures are still what the inputs say they are."""
    assert _words(entry.says) in _words((ROOT / entry.file).read_text())


@pytest.mark.parametrize("entry", QUOTED)
def test_the_value_is_the_one_that_is_quoted(entry: Quoted) -> None:
    """No value differs from its own quotation; memory may be given in MiB or MB there."""
    found = _numbers(entry.says)
    assert entry.value in found | {number / 1024 for number in found}


@pytest.mark.parametrize("group", ["deployed", "measured", "assumed"])
def test_every_input_is_used(group: str) -> None:
    """The tables are computed from each of them; only Google's limits are listed for themselves."""
    code = "".join(path.read_text() for room in ROOMS for path in (ROOT / "tools" / room).glob("*.py"))
    unused = [name for name, _ in getattr(load_inputs(), group) if f".{name}.value" not in code]
    assert unused == []


def test_every_alert_on_a_metric_is_counted() -> None:
    """As many conditions are paid for as Terraform has alerts on metrics, by threshold or in PromQL."""
    module = ROOT / "terraform" / "modules" / "observability"
    thresholds = re.findall(r"^\s+aligner\s+= ", (module / "main.tf").read_text(), re.MULTILINE)
    queries = re.findall(r"^\s+query\s+= ", (module / "flow.tf").read_text(), re.MULTILINE)
    assert load_inputs().assumed.alert_conditions.value == len(thresholds) + len(queries)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which file, and what to give instead."""
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read .*: give the path of a TOML file"):
        load_inputs(tmp_path / "nowhere.toml")


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    """The error says where the file breaks off."""
    path = tmp_path / "broken.toml"
    path.write_text("[deployed\n")
    with pytest.raises(InputError, match=r"broken\.toml is not TOML: .*line 1"):
        load_inputs(path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[assumed.cold_start_s]", "[assumed.cold_start]", r"assumed\.cold_start_s: Field required"),
        ("[assumed.cold_start_s]", "[assumed.cold_start]", r"assumed\.cold_start: Extra inputs"),
        ("value = 60\n", "value = -60\n", r"assumed\.cold_start_s\.value: Input should be greater than"),
        ("value = 60\n", 'value = "soon"\n', r"assumed\.cold_start_s\.value: Input should be a valid number"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """Each entry that is missing, unknown or no number is named with what is wrong."""
    path = tmp_path / "inputs.toml"
    path.write_text(INPUTS.read_text().replace(old, new))
    with pytest.raises(InputError, match=complaint):
        load_inputs(path)
