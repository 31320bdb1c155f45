"""What a load asks of each part, and which part is full first."""

from dataclasses import astuple
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tools.cloud_costs.traffic import MONTH_S
from tools.generated_tables import with_tables
from tools.inputs import load_inputs
from tools.scaling_arithmetic import __main__ as command
from tools.scaling_arithmetic.model import connections, instances_for, load, retry_window_s, waiting_images
from tools.scaling_arithmetic.parts import full_at, parts_as_deployed, parts_at_their_largest
from tools.scaling_arithmetic.tables import all_tables

ROOT = Path(__file__).resolve().parents[2]
INPUTS = load_inputs()
CLOSE = pytest.approx
rates = st.floats(0.01, 100_000)
gpu_rates = st.floats(0.1, 1000)


def _run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_page_has_what_the_script_prints() -> None:
    """The tables in docs/ equal the script's; `--page docs/scaling.md` makes them anew."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert page == with_tables(page, all_tables(INPUTS))


def test_a_load_by_hand() -> None:
    """A thousand photographs a second, 20 per GPU."""
    found = load(INPUTS, 1000, 20)
    assert found.function_cores == CLOSE(3.23)
    assert found.function_instances == 6
    assert found.worker_instances == 50
    assert found.redis_cores == CLOSE(0.055 + 0.259)
    assert found.postgres_cores == CLOSE(0.515 + 1.44)
    assert found.connections == 6 * 8 + 50 * 17
    assert found.table_bytes_a_month == CLOSE(1000 * MONTH_S * 1114)
    assert found.queue_full_after_s == CLOSE(1024**3 / 921 / 1000)


@given(rates, st.floats(1, 100), gpu_rates)
def test_more_images_never_need_less(images_per_s: float, factor: float, gpu_rate: float) -> None:
    """Every number grows with the rate, but for the times that something lasts."""
    small, large = load(INPUTS, images_per_s, gpu_rate), load(INPUTS, images_per_s * factor, gpu_rate)
    shrinking = {"months_on_one_disk", "queue_full_after_s"}
    for name, before, after in zip(small.__dataclass_fields__, astuple(small), astuple(large), strict=True):
        assert (after <= before * (1 + 1e-9)) if name in shrinking else (after >= before * (1 - 1e-9))


@given(rates, gpu_rates, st.floats(1, 100))
def test_a_faster_gpu_never_needs_more_instances(images_per_s: float, gpu_rate: float, factor: float) -> None:
    """Down to the number that the CPUs beside it allow."""
    slow, fast = load(INPUTS, images_per_s, gpu_rate), load(INPUTS, images_per_s, gpu_rate * factor)
    assert fast.worker_instances <= slow.worker_instances
    assert fast.worker_instances * 4 >= fast.worker_cores * (1 - 1e-9)


def test_instances_are_whole_and_at_least_one() -> None:
    """A load that fits exactly needs no further instance, however the computer rounds."""
    assert [instances_for(value, 0.1) for value in (0.0, 0.05, 0.1, 0.3, 0.31)] == [1, 1, 1, 3, 4]


@given(gpu_rates)
def test_the_first_part_that_is_full_comes_first(gpu_rate: float) -> None:
    """Both lists ascend, every capacity is positive, and no part is there twice."""
    for parts in (parts_as_deployed(INPUTS, gpu_rate), parts_at_their_largest(INPUTS, gpu_rate)):
        capacities = [part.images_per_s for part in parts]
        assert capacities == sorted(capacities)
        assert capacities[0] > 0
        assert len({part.name for part in parts}) == len(parts)


def test_a_part_is_full_beyond_its_capacity_and_not_at_it() -> None:
    """At its capacity a part is just not full."""
    parts = parts_as_deployed(INPUTS, 20)
    first = parts[0]
    assert first.name == "GPU of the workers"
    assert full_at(parts, first.images_per_s) == []
    assert full_at(parts, first.images_per_s * 1.001) == [first]


def test_the_defaults_have_room_for_their_connections() -> None:
    """All instances that Terraform starts by default fit into the connections that it allows."""
    deployed = INPUTS.deployed
    used = connections(INPUTS, int(deployed.function_instances_max.value), int(deployed.worker_instances.value))
    assert used <= deployed.database_connections.value


def test_the_retries_by_hand() -> None:
    """5, 10, 20, … 320 s, and then 600 s each, between 50 deliveries."""
    assert retry_window_s(INPUTS) == 5 + 10 + 20 + 40 + 80 + 160 + 320 + 42 * 600


def test_a_waiting_image_takes_what_terraform_says() -> None:
    """The queue's variable says about a kilobyte; a GiB holds about a million."""
    text = (ROOT / "terraform" / "modules" / "queue" / "variables.tf").read_text()
    assert "A waiting image takes about a kilobyte." in text
    assert 1_000_000 < waiting_images(INPUTS) < 1_200_000


def test_the_command_answers_for_other_numbers(tmp_path: Path) -> None:
    """Rates of one's own are in the tables; a file that is not there is an error in one line."""
    code, output = _run("--rate", "30", "--images-per-second", "12.5")
    assert code == 0
    assert "| 12.5 images/s per GPU | 3 |" in output
    assert "10,000/s" not in output
    code, output = _run("--inputs", str(tmp_path / "none.toml"))
    assert code == 1
    assert output.startswith("No arithmetic: ")
    assert output.count("\n") == 1
