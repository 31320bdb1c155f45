"""Decodes damaged copies of the corpus' files, and reports each crash, foreign exception and time-out.

python -m tests.corpus.fuzz --count 100000 --seed 1

Each finding has a number. `--seed S --only NUMBER` decodes the file again, in the command's own process;
`--write PATH` keeps the file.
"""

import argparse
import importlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from dropline.errors import ImageRefused, InvalidImage
from dropline.images.decoding import decode
from dropline.settings import ImageSettings
from tests.corpus.expected import SIDE
from tests.corpus.mutations import mutant

#: Number of slow files in a report.
_SLOWEST = 5
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Finding:
    """A damaged file, and the decoder's failure."""

    number: int
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run."""

    #: Files by outcome: "decoded", a code of a refusal, or "found".
    outcomes: Counter[str]
    findings: list[Finding]
    #: Seconds and number of the slowest files.
    slowest: list[tuple[float, int]] = field(default_factory=list)


def decoded(data: bytes) -> str:
    """Decode one file: "decoded", or the code of the refusal. Every other exception passes."""
    try:
        decode(data, SIDE, ImageSettings())
    except (InvalidImage, ImageRefused) as error:
        return error.code
    return "decoded"


def _serve(target: str, seed: int, numbers: range, results: Connection) -> None:
    """In a child: decode the files, and send an outcome after each."""
    module, _, name = target.partition(":")
    run: Callable[[bytes], str] = getattr(importlib.import_module(module), name)
    for number in numbers:
        data = mutant(seed, number).data
        began = time.monotonic()
        try:
            outcome, problem = run(data), ""
        except Exception as error:  # noqa: BLE001 - every exception is a finding
            outcome, problem = "found", f"{type(error).__name__}: {error}"
        results.send((outcome, problem, time.monotonic() - began))
    results.close()


class _Child:
    """A process for some of the files; after a crash, a new process continues behind the file."""

    def __init__(self, target: str, seed: int, numbers: range) -> None:
        self._target, self._seed = target, seed
        self.numbers = numbers
        self._start()

    def _start(self) -> None:
        self.results, theirs = _CONTEXT.Pipe(duplex=False)
        arguments = (self._target, self._seed, self.numbers, theirs)
        self._process = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        # A new process imports the decoder first.
        self.since = time.monotonic() + 20

    def receive(self) -> tuple[str, str, float]:
        """The outcome of the current file, the problem if the outcome is one, and the seconds.

        Raises:
            EOFError: the process is dead.
        """
        outcome: tuple[str, str, float] = self.results.recv()
        self.numbers = self.numbers[1:]
        self.since = time.monotonic()
        return outcome

    def stop(self, patience_s: float = 0.0) -> int | None:
        """End the process; the exit code if the process was dead after some seconds."""
        self._process.join(timeout=patience_s)
        code = self._process.exitcode
        self._process.kill()
        self._process.join()
        self.results.close()
        return code

    def skip(self) -> None:
        """Go on behind the current file, in a new process."""
        self.numbers = self.numbers[1:]
        if self.numbers:
            self._start()


def run(
    seed: int, count: int, *, jobs: int = 2, limit_s: float = 20.0, seconds: float | None = None, target: str = ""
) -> Report:
    """Decode `count` damaged files in `jobs` processes.

    Args:
        seed: of the series of files.
        count: files.
        jobs: processes at a time.
        limit_s: longest time for one file, in seconds.
        seconds: end of the run, also with fewer files; None: no end.
        target: function of the bytes of one file, as "module:name"; by default `decoded`.
    """
    report = Report(Counter(), [])
    step = range(count)
    children = [_Child(target or f"{__name__}:decoded", seed, step[job::jobs]) for job in range(min(jobs, count))]
    end = time.monotonic() + (seconds if seconds is not None else float("inf"))
    while any(child.numbers for child in children) and time.monotonic() < end:
        busy = [child for child in children if child.numbers]
        ready = wait([child.results for child in busy], timeout=0.5)
        for child in busy:
            _collect(child, child.results in ready, limit_s, report)
    for child in children:
        child.stop()
    return report


def _collect(child: _Child, ready: bool, limit_s: float, report: Report) -> None:
    number, seconds = child.numbers[0], limit_s
    if ready:
        try:
            outcome, problem, seconds = child.receive()
        except EOFError:
            outcome, problem = "found", f"the process ended with {child.stop(patience_s=5)}"
            child.skip()
    elif time.monotonic() - child.since > limit_s:
        child.stop()
        outcome, problem = "found", f"no result after {limit_s:g} s"
        child.skip()
    else:
        return
    report.outcomes[outcome] += 1
    report.slowest[:] = sorted([*report.slowest, (seconds, number)], reverse=True)[:_SLOWEST]
    if problem:
        report.findings.append(Finding(number, problem))


def _lines(report: Report, seed: int) -> Iterator[str]:
    total = report.outcomes.total()
    for finding in report.findings:
        yield f"--seed {seed} --only {finding.number}  {mutant(seed, finding.number).history}  {finding.problem}"
    yield f"{total} damaged files, {len(report.findings)} findings"
    yield from (f"{outcome:22} {number}" for outcome, number in report.outcomes.most_common())
    for seconds, number in report.slowest:
        yield f"{seconds:.1f} s  --seed {seed} --only {number}  {mutant(seed, number).history}"


def _one(seed: int, number: int, path: str | None) -> str:
    made = mutant(seed, number)
    if path:
        Path(path).write_bytes(made.data)
    return f"{made.history}, {len(made.data)} bytes: {decoded(made.data)}"


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit status is 1 after findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="damaged files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--limit", type=float, default=20.0, help="longest time for one file, in seconds")
    parser.add_argument("--seconds", type=float, help="end of the run, also with fewer files")
    parser.add_argument("--only", type=int, help="decode the file with this number, in this process")
    parser.add_argument("--write", help="path for the file of --only")
    options = parser.parse_args(arguments)
    if options.only is not None:
        sys.stdout.write(_one(options.seed, options.only, options.write) + "\n")
        return 0
    report = run(options.seed, options.count, jobs=options.jobs, limit_s=options.limit, seconds=options.seconds)
    sys.stdout.write("\n".join(_lines(report, options.seed)) + "\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
