"""A short soak: hundreds of drops while processes are killed, and services lose data, rights and room."""

import random
import secrets
from pathlib import Path

import pytest

from tests.chaos.plan import SHORT, make_plan, most_repeated
from tests.chaos.run import carry_out
from tests.chaos.stage import CHILDREN, WORKERS
from tests.chaos.verdict import judge
from tests.support.processes import linux_only

pytestmark = pytest.mark.acceptance

_REST_S = 240.0


@linux_only
@pytest.mark.usefixtures("system_faults")
def test_nothing_is_lost_while_everything_is_killed_in_turn(state_directory: Path) -> None:
    """Every object version gets one row with the right final status; `python -m tests.chaos` is the long run."""
    seed = secrets.randbelow(2**32)
    print(f"python -m tests.chaos --short --seed {seed}")
    plan = make_plan(SHORT, random.Random(seed))
    found = carry_out(plan, state_directory, seed, _REST_S, print, outage_s=SHORT.outage_s)
    assert (
        judge(found, most_repeated(plan, WORKERS, CHILDREN, lost_with_engines=found.lost_with_engines)).faults
        == []
    )
