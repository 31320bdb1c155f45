"""The worker's composition root, without processes and connections."""

import pytest
from structlog.testing import capture_logs

from dropline.images.sandbox import Measure
from worker.app import log_sandbox


@pytest.mark.parametrize(
    ("active", "level"), [(frozenset(Measure), "info"), (frozenset(Measure) - {Measure.SECCOMP}, "warning")]
)
def test_a_sandbox_without_its_main_measure_is_a_warning(active: frozenset[Measure], level: str) -> None:
    """The line names the active and the missing measures."""
    with capture_logs() as lines:
        log_sandbox(active)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("decoder_sandbox", level)
    assert {*line["active"], *line["missing"]} == set(Measure)
    assert set(line["active"]) == active
