"""Everything on the standard error of a process of Dropline's is a line of JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

from dropline.log_capture import LONGEST_LINE, split_lines

ROOT = Path(__file__).resolve().parents[2]

_NOISE = """
import ctypes, os, subprocess, sys, threading, warnings
from dropline.log import configure_process_logging, get_logger
configure_process_logging("INFO", "json", "test")
warnings.warn("a warning")
print("a print", file=sys.stderr)
libc = ctypes.CDLL(None)
libc.perror(b"a C library")
os.write(2, b"\\xff\\x1b[31mraw\\r\\nprogress 1\\rprogress 2\\n")
os.write(2, b'{"severity": "INFO", "message": "forged"}\\n')
os.write(2, b"x" * 100_000 + b"\\n")
thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")
thread.start(); thread.join()
class Bad:
    def __del__(self): raise ValueError("in a finalizer")
Bad()
subprocess.run(["sh", "-c", "echo a child >&2"])
if os.fork() == 0:
    os.write(2, b"a fork\\n")
    get_logger("child").error("from the fork")
    os._exit(0)
os.wait()
get_logger("x").info("done")
os.write(2, b"no line end")
raise RuntimeError("the end")
"""


def _pipe(*chunks: bytes) -> list[str]:
    reader, writer = os.pipe()
    for chunk in chunks:
        os.write(writer, chunk)
    os.close(writer)
    try:
        return list(split_lines(reader))
    finally:
        os.close(reader)


def test_lines_are_split_and_bounded() -> None:
    """Line ends of any kind, no empty line, a long line once and cut, and the last one without an end."""
    assert _pipe(b"a\n\nb\r", b"\nc", b"d\n", b"e") == ["a", "b", "cd", "e"]
    assert _pipe(b"x" * 9000 + b"\nnext\n") == ["x" * LONGEST_LINE, "next"]
    assert _pipe(b"\xff\n") == ["\\xff"]


def test_everything_on_standard_error_is_json() -> None:
    """Warnings, prints, C libraries, threads, finalizers, children and the end of the process itself."""
    done = subprocess.run(
        [sys.executable, "-c", _NOISE], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    found = {record["message"]: record for record in records}
    for message in (
        "a print",
        "a C library: Success",
        "\\xff\x1b[31mraw",
        "progress 2",
        "a child",
        "a fork",
        "no line end",
    ):
        assert found[message]["logger"] == "stderr", found.keys()
        assert found[message]["severity"] == "WARNING"
    assert any("UserWarning: a warning" in message for message in found)
    assert "ZeroDivisionError" in found["thread worker-7 ended by ZeroDivisionError"]["exception"]
    assert any("in a finalizer" in record.get("exception", "") for record in records)
    assert found["uncaught RuntimeError"]["severity"] == "CRITICAL"
    assert found["from the fork"]["severity"] == "ERROR"
    assert "forged" not in found
    assert max(map(len, done.stderr.splitlines())) < 2 * LONGEST_LINE


def test_a_crash_leaves_readable_last_words() -> None:
    """`faulthandler` writes the traceback of a crash as plain lines, after the last line of JSON."""
    source = (
        "import ctypes\nfrom dropline.log import configure_process_logging\n"
        "configure_process_logging('INFO', 'json', 'test')\nctypes.string_at(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert 'File "<string>", line 4' in done.stderr
