"""Workers with clocks ten minutes off: Postgres measures each time on which a row depends."""

import json
from datetime import datetime, timedelta

from sqlalchemy import text

from dropline.contract import ObjectVersion
from local_emulators.supervisor import Service
from tests.support.failpoints import INFERENCE_VARIABLE, arm, armed, inferences
from tests.support.processes import linux_only
from tests.support.system_faults import SystemFaults
from tests.support.worker_rig import DEADLINE_S, Rig, png

_TEN_MINUTES_S = 600


@linux_only
def test_fault_22_clocks_ten_minutes_off(rig: Rig, system_faults: SystemFaults) -> None:
    """A worker ahead beside a worker behind, with back-offs and a dead child: each row once, in its time."""
    # Messages that a worker took are overdue after 9 minutes: sooner than the clocks differ.
    common = {"DROPLINE_BROKER__VISIBILITY_TIMEOUT_S": "540", INFERENCE_VARIABLE: "0.05"}
    common |= {"DROPLINE_IMAGES__DECODE_TIMEOUT_S": "9", "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "10"}
    common |= {"DROPLINE_WORKER__TIME_LIMIT_S": "15"}
    arm(rig.directory, "decoding", "child")
    for worker in (
        rig.worker("ahead", **common, **system_faults.clock_off_by(_TEN_MINUTES_S)),
        rig.worker("behind", **common, **system_faults.clock_off_by(-_TEN_MINUTES_S)),
    ):
        assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    ahead, behind = (_clock(rig.supervisor.services[name]) for name in ("ahead", "behind"))
    assert ahead - behind > timedelta(seconds=1.5 * _TEN_MINUTES_S), "the fault is not there"
    ids = [rig.drop(f"{n}.png", png((n, 0, 22), (4, 4))) for n in range(20)]
    gone = rig.register(ObjectVersion("no-such-bucket", "a.png", 1))  # in a back-off, again and again
    rig.enqueue(gone)
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"captioned"}
    assert armed(rig.directory) == []
    assert len(inferences(rig.directory)) == len(ids)
    by = {row["claimed_by"].partition("/")[0] for row in rows}
    assert len(by) == 2, f"only {by} captioned"
    with rig.database.transaction() as connection:
        now = connection.execute(text("SELECT now()")).scalar_one()
    times = [row[name] for row in rows for name in ("started_at", "captioned_at", "metadata_written_at")]
    assert all(now - timedelta(seconds=_TEN_MINUTES_S) < time <= now for time in times)
    assert rig.row(gone)["not_before"] < now + timedelta(seconds=_TEN_MINUTES_S / 2)


def _clock(worker: Service) -> datetime:
    """The time of the worker's last log line."""
    return datetime.fromisoformat(json.loads(worker.last_lines(1)[0])["time"])
