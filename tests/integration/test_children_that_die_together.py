"""Two children that die at once: the parent reads the acceptance of the second before closing the pipe."""

import os
import signal

from tests.support.failpoints import Gate, arm, inferences
from tests.support.processes import children, linux_only, wait_for_exit
from tests.support.worker_rig import DEADLINE_S, Rig, png


@linux_only
def test_a_child_that_dies_while_its_parent_mourns_another(rig: Rig) -> None:
    """The parent must not give the message of the second child to another child.

    The other child would find the row leased by the dead child, and drop the message as a duplicate.
    """
    first, releasing = Gate(rig.directory, "claimed"), Gate(rig.directory, "releasing")
    worker = rig.worker(DROPLINE_WORKER__CONCURRENCY="2", DROPLINE_WORKER__LOOK_FOR_ROWS="false")
    arm(rig.directory, "before-commit", "child", times=2)
    rows = [rig.drop("first.png", png((1, 0, 7)))]
    held = first.wait(DEADLINE_S)
    forked = {pid for pid, child in children(worker.pid).items() if "failpoint_worker" in child.command_line}
    (idle,) = forked - {held}
    os.kill(idle, signal.SIGSTOP)
    rows.append(rig.drop("second.png", png((2, 0, 7))))
    assert worker.wait_for_line(f'"args": "[{rows[1]}]"', DEADLINE_S)
    first.open()
    releasing.wait(DEADLINE_S)
    os.kill(idle, signal.SIGCONT)
    assert wait_for_exit(idle, DEADLINE_S)
    releasing.open()
    found = rig.wait_settled(rows, DEADLINE_S / 2)  # half a lease, so no wait for an expired lease
    assert [(row["status"], row["lost_attempts"]) for row in found] == [("captioned", 1), ("captioned", 1)]
    assert sorted(inferences(rig.directory)) == ["010007", "010007", "020007", "020007"]
