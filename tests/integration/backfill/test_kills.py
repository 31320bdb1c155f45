"""A backfill as a real process, killed with SIGKILL, on 2,000 objects."""

import json
import signal
import subprocess
from time import monotonic

import pytest
import redis

from db.listen import listening
from dropline.contract import CAPTION_QUEUE
from tests.support.bulk import BulkRig
from tests.support.worker_rig import DEADLINE_S

_OBJECTS = 2000
_KILLS = 3


def kill_after(bulk: BulkRig, rows: int) -> None:
    """Run the command, and kill it when it has inserted some rows; a rate makes it last."""
    with (
        listening(bulk.settings.database, "test") as listener,
        bulk.command("backfill", bulk.uri, "--rate", "400") as process,
    ):
        deadline = monotonic() + DEADLINE_S
        for number, _ in enumerate(listener.notices(deadline - monotonic()), 1):
            if number == rows:
                break
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)


def finished(process: "subprocess.Popen[str]") -> dict[str, object]:
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    document: dict[str, object] = json.loads(output)
    return document


def test_a_backfill_that_is_killed_three_times_inserts_each_row_once(bulk: BulkRig, redis_url: str) -> None:
    """The same command again continues; at the end each object has one row, and a second run changes nothing."""
    names = [f"{number % 7}/{number:04}.jpg" for number in range(_OBJECTS)]
    bulk.put_all(names)
    counts = []
    for _ in range(_KILLS):
        kill_after(bulk, 1)
        counts.append(len(bulk.names()))
    assert counts == sorted(set(counts))
    assert counts[-1] < _OBJECTS
    with bulk.command("backfill", bulk.uri, "--json") as process:
        record = finished(process)
    assert bulk.names() == sorted(names)
    assert (record["id"], record["listed"], record["queued"], record["existing"]) == (1, _OBJECTS, _OBJECTS, 0)
    with redis.Redis.from_url(redis_url, protocol=2) as queue:
        assert 1 <= queue.llen(CAPTION_QUEUE) <= 3 * (_KILLS + 1)
    before = bulk.rows()
    with bulk.command("backfill", bulk.uri, "--json") as process:
        again = finished(process)
    assert (again["listed"], again["existing"], again["queued"]) == (_OBJECTS, _OBJECTS, 0)
    assert bulk.rows() == before


@pytest.mark.parametrize("most", [7])
def test_a_limit_ends_the_command(bulk: BulkRig, most: int) -> None:
    """`--max`, as a process."""
    bulk.put_all(f"{number}.jpg" for number in range(20))
    with bulk.command("backfill", bulk.uri, "--max", str(most), "--json") as process:
        assert finished(process)["queued"] == most
    assert len(bulk.names()) == most
