"""Writes all files of the corpus to a directory: `python -m tests.corpus DIR`."""

import sys
from pathlib import Path

from tests.corpus.expected import Shown
from tests.corpus.table import CASES


def main(arguments: list[str]) -> int:
    """Write the files, and `table.tsv` with the right results.

    Args:
        arguments: the path of the directory.
    """
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.corpus DIR\n")
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in CASES:
        (directory / case.name).write_bytes(case.make())
        right = f"shows {case.right.scene}" if isinstance(case.right, Shown) else case.right.code
        lines.append(f"{case.name}\t{case.topic}\t{case.what}\t{right}\n")
    (directory / "table.tsv").write_text("".join(lines))
    sys.stdout.write(f"{len(CASES)} files in {directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
