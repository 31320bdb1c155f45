"""Prints `constraints-cuda.txt`: what the default torch for Linux brings beside `constraints.txt`.

That torch is not what `make test` runs with, so pip is asked what it would install, on Linux, with the Python
of the images:

    pip --isolated install --dry-run --ignore-installed --quiet --report report.json torch==VERSION
    python -m tools.dockerfile_cuda_pins report.json > constraints-cuda.txt
"""

import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

_HEADER = "# What torch {torch} for CUDA brings beside constraints.txt. Made by tools/dockerfile_cuda_pins.py."


def cuda_pins(report: dict[str, Any], pinned: Collection[str]) -> list[str]:
    """The lines of the file: a header and one `name==version` per package that is not pinned elsewhere.

    Args:
        report: what pip would install, torch among it.
        pinned: normalised names that have a pin.
    """
    versions = {
        re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower(): each["metadata"]["version"]
        for each in report["install"]
    }
    header = _HEADER.format(torch=versions["torch"].partition("+")[0])
    return [header, *(f"{name}=={versions[name]}" for name in sorted(versions.keys() - set(pinned)))]


def names_in(constraints: str) -> set[str]:
    """The names that a file of constraints pins."""
    return {line.partition("==")[0] for line in constraints.splitlines() if "==" in line and line[0] != "#"}


def main() -> None:
    """Print the file."""
    report = json.loads(Path(sys.argv[1]).read_text())
    constraints = Path(__file__).resolve().parents[1] / "constraints.txt"
    sys.stdout.write("\n".join(cuda_pins(report, names_in(constraints.read_text()))) + "\n")


if __name__ == "__main__":
    main()
