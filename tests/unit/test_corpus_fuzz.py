"""Damaged files: every one is decoded or refused, and the fuzz command sees what is neither."""

import os
import time
from collections import Counter

import pytest

from tests.corpus import fuzz
from tests.corpus.mutations import fields, mutant
from tests.corpus.table import CASES

_HERE = __name__


def test_damaged_files_are_decoded_or_refused() -> None:
    """Some hundred damaged files of all kinds: no crash, no foreign exception, no time-out."""
    report = fuzz.run(seed=9, count=400, seconds=20)
    assert report.findings == []
    assert report.outcomes["decoded"] > 0
    assert len(report.outcomes) > 2


def test_a_number_names_one_file() -> None:
    """The same seed and number give the same bytes; other numbers give others."""
    made = [mutant(9, number) for number in range(40)]
    assert made == [mutant(9, number) for number in range(40)]
    assert len({each.data for each in made}) > 30


def test_fields_lie_inside_the_chunks() -> None:
    """Files with chunks have fields, and a length changed there is another length of the same chunk."""
    with_fields = {case.topic for case in CASES[::7] if fields(case.make())}
    assert {"JPEG", "PNG", "TIFF", "WebP", "HEIF", "AVIF", "GIF", "BMP"} <= with_fields


def end_the_process(data: bytes) -> str:
    """In a child of the fuzz command: the process ends at some files."""
    if len(data) % 2:
        os._exit(7)
    return "decoded"


def fail(data: bytes) -> str:
    """In a child of the fuzz command: a foreign exception at some files."""
    return str(1 // (len(data) % 2))


def hang(data: bytes) -> str:
    """In a child of the fuzz command: no result for one file."""
    if data == mutant(9, 3).data:
        time.sleep(600)
    return "decoded"


@pytest.mark.parametrize(
    ("target", "problem"),
    [(end_the_process, "the process ended with 7"), (fail, "ZeroDivisionError"), (hang, "no result after 1 s")],
)
def test_findings_have_the_number_of_their_file(target: object, problem: str) -> None:
    """A dead process, a foreign exception and a hanging decoder are findings; the other files are decoded."""
    count = 6
    report = fuzz.run(seed=9, count=count, jobs=1, limit_s=1, target=f"{_HERE}:{target.__name__}")  # type: ignore[attr-defined]
    assert report.outcomes.total() == count
    odd = {number for number in range(count) if len(mutant(9, number).data) % 2}
    due = {end_the_process: odd, fail: set(range(count)) - odd, hang: {3}}[target]  # type: ignore[index]
    assert {finding.number for finding in report.findings} == due
    assert all(finding.problem.startswith(problem) for finding in report.findings)


def test_the_command_prints_how_to_repeat_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per finding with seed and number, then the outcomes."""
    report = fuzz.Report(Counter(found=1, decoded=2), [fuzz.Finding(5, "TypeError: x")])
    lines = list(fuzz._lines(report, seed=9))
    assert lines[0].startswith("--seed 9 --only 5  ")
    assert lines[0].endswith("TypeError: x")
    assert lines[1] == "3 damaged files, 1 findings"
    assert fuzz.main(["--seed", "9", "--only", "5"]) == 0
    assert mutant(9, 5).history in capsys.readouterr().out
