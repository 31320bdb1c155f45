"""A redo of many rows while worker, Redis and command are killed; a trigger watches each change of a row."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import psycopg
from psycopg.rows import TupleRow

from cli.exit_codes import ExitCode
from dropline.contract import NOTIFY_CHANNEL
from local_emulators.process import process_environment, python_path
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Service
from tests.support.failpoints import INFERENCE_VARIABLE, inferences
from tests.support.worker_rig import Rig, png

#: Rows that a person has edited, in runs on a schema that has the column.
EDITED = 20
#: Children of the worker, and so the most inferences that one death repeats.
CHILDREN = 4
_LABEL = b"\x09"
_INSERT = """
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, model_revision,
                          captioned_at, metadata_written_at, attempts)
    VALUES (%s, %s, %s, '<CAPTION>', 'captioned', %s, 'old', 'r1', now(), now(), 1)
"""
_WATCH = """
    CREATE TABLE redo_log (row_id bigint, what text);
    CREATE FUNCTION log_redo() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.status <> 'captioned' OR NEW.caption IS NULL THEN
            INSERT INTO redo_log VALUES (NEW.id, 'hidden');
        ELSIF NEW.caption <> OLD.caption OR NEW.model <> OLD.model THEN
            INSERT INTO redo_log VALUES (NEW.id, 'replaced');
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER log_redo AFTER UPDATE ON captions FOR EACH ROW EXECUTE FUNCTION log_redo();
"""
_WRITTEN = "SELECT count(*) FROM captions WHERE model = 'counting' AND metadata_written_at IS NOT NULL"
_REPLACED = "SELECT count(*) FROM redo_log WHERE what = 'replaced'"


@dataclass
class Report:
    """What was seen."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, what: str, found: int, expected: int) -> None:
        """Note a number, and a fault where it is another one."""
        self.counts[what] = found
        if found != expected:
            self.faults.append(f"{what}: {found}, and not {expected}")


class RedoRun:
    """The rows of a rig, and the redo."""

    def __init__(self, rig: Rig, redis: RedisServer, rows: int, timeout_s: float, *, ends_leases: bool) -> None:
        """Upload the images, and insert their rows as an old model has captioned them.

        Args:
            rig: with services, and without a worker.
            redis: of the rig; is killed.
            rows: to be captioned again.
            timeout_s: longest wait for a number of captions.
            ends_leases: a killed worker's leases end at once, as time would end them.
        """
        self.rig, self.redis, self.rows = rig, redis, rows
        self._timeout_s, self._ends_leases = timeout_s, ends_leases
        self._sql: psycopg.Connection[TupleRow] = psycopg.connect(rig.database_url, autocommit=True)
        self.labels = [bytes((number >> 8, number & 255)) + _LABEL for number in range(rows + EDITED)]
        self.has_edits = self._number(
            "SELECT count(*) FROM information_schema.columns "
            "WHERE table_name = 'captions' AND column_name = 'edited_at'"
        )
        self._insert()
        self._sql.execute(_WATCH)
        self._sql.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())

    def _insert(self) -> None:
        for number, label in enumerate(self.labels[: self.rows + EDITED * self.has_edits]):
            red, green, blue = label
            written = {"caption": f"old {number}", "caption-prompt": "<CAPTION>", "caption-model": "old"}
            version = self.rig.upload(f"{number:05}.png", png((red, green, blue), (4, 4)), **written)
            self._sql.execute(_INSERT, (version.bucket, version.name, version.generation, f"old {number}"))
        if self.has_edits:
            self._sql.execute(
                "UPDATE captions SET edited_by = 'Ida', edited_at = now() WHERE object_name >= %s",
                (f"{self.rows:05}.png",),
            )

    def carry_out(self, worker_kills: int, redis_kills: int) -> Report:
        """Redo all rows; the kills are spread over the run. The command itself is killed once."""
        worker = self._worker(0)
        first = self._command("--rate", "20")
        self._wait_for(self.rows // 20)
        first.kill()
        first.communicate()
        taken = self._number("SELECT count(*) FROM captions WHERE redo OR model <> 'old'")
        second = self._command("--json", "--wait")
        steps: list[Callable[[Service, int], Service]] = [self._kill_worker] * worker_kills
        steps[len(steps) // 2 : len(steps) // 2] = [self._kill_redis] * redis_kills
        for number, step in enumerate(steps, 1):
            self._wait_for(self.rows // 20 + number * self.rows * 8 // (10 * len(steps) + 10))
            worker = step(worker, number)
        output, errors = second.communicate(timeout=self._timeout_s)
        self._wait_for(self.rows, _WRITTEN)
        report = self._judge(worker_kills)
        report.counts["rows that the killed command had taken"] = taken
        if second.returncode != ExitCode.OK:
            report.faults.append(f"the command ended with {second.returncode}: {errors}")
        elif f'"taken": {self.rows - taken}' not in output:
            report.faults.append(f"the second command took other rows than the rest: {output}")
        third = self._command("--json")
        if '"taken": 0' not in third.communicate(timeout=self._timeout_s)[0]:
            report.faults.append("the third command has taken rows")
        return report

    def _judge(self, worker_kills: int) -> Report:
        report = Report()
        logged: Counter[str] = Counter(
            dict(self._sql.execute("SELECT what, count(*) FROM redo_log GROUP BY 1").fetchall())
        )
        report.expect("changes after which a row had no caption", logged["hidden"], 0)
        report.expect("captions that were replaced", logged["replaced"], self.rows)
        twice = "SELECT count(*) FROM (SELECT FROM redo_log GROUP BY row_id HAVING count(*) > 1) AS rows"
        report.expect("rows whose caption was replaced twice", self._number(twice), 0)
        report.expect("captions in the history", self._number("SELECT count(*) FROM caption_history"), self.rows)
        wrong = (
            "SELECT count(*) FROM captions LEFT JOIN caption_history AS old ON old.caption_id = captions.id WHERE "
            "captions.model = 'counting' AND (old.caption <> 'old ' || (captions.id - 1) OR old.model <> 'old')"
        )
        report.expect("rows with a wrong history", self._number(wrong), 0)
        labels = [label.hex() for label in self.labels]
        found = self._sql.execute("SELECT caption FROM captions WHERE model = 'counting' ORDER BY id").fetchall()
        report.expect(
            "rows with their own new caption",
            sum(caption == label for (caption,), label in zip(found, labels, strict=False)),
            self.rows,
        )
        report.expect("new captions in the metadata", self._number(_WRITTEN), self.rows)
        repeated = len(inferences(self.rig.directory)) - self.rows
        report.counts["inferences repeated"] = repeated
        if not 0 <= repeated <= worker_kills * CHILDREN:
            report.faults.append(f"{repeated} inferences repeated, more than {worker_kills} deaths explain")
        if self.has_edits:
            untouched = (
                "SELECT count(*) FROM captions WHERE edited_at IS NOT NULL AND caption LIKE 'old %' AND NOT redo"
            )
            report.expect("edited rows untouched", self._number(untouched), EDITED)
        return report

    def _worker(self, number: int) -> Service:
        return self.rig.worker(
            f"worker-{number}",
            **{
                INFERENCE_VARIABLE: "0.02",
                "DROPLINE_WORKER__CONCURRENCY": str(CHILDREN),
                "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "9",
                "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "10",
                "DROPLINE_WORKER__TIME_LIMIT_S": "15",
                "DROPLINE_BROKER__POLLING_INTERVAL_S": "2",
            },
        )

    def _kill_worker(self, worker: Service, number: int) -> Service:
        worker.kill()
        if self._ends_leases:
            self._sql.execute("UPDATE captions SET lease_until = now() WHERE lease_until > now()")
        return self._worker(number)

    def _kill_redis(self, worker: Service, _number: int) -> Service:
        """Kill Redis, and start it without its messages."""
        self.redis.service.kill()
        for file in (self.redis.service.command.cwd or self.rig.directory).glob("appendonlydir/*"):
            file.unlink()
        self.redis.service.start()
        return worker

    def _command(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = process_environment(
            PYTHONPATH=python_path(),
            DROPLINE_DATABASE__URL=self.rig.database_url,
            DROPLINE_BROKER__URL=self.rig.redis_url,
        )
        argv = [sys.executable, "-m", "cli", "recaption", "--bucket", self.rig.bucket, *arguments]
        return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _wait_for(self, rows: int, count: str = _REPLACED) -> None:
        """Wait until so many captions have been replaced, or written to the metadata."""
        deadline = monotonic() + self._timeout_s
        while self._number(count) < rows:
            left_s = deadline - monotonic()
            assert left_s > 0, f"{self._number(count)} of {rows} captions after {self._timeout_s:g} s"
            list(self._sql.notifies(timeout=left_s, stop_after=1))

    def _number(self, statement: str) -> int:
        row = self._sql.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """Close the connection."""
        self._sql.close()
