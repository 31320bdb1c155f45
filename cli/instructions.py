"""What a person types next, in words that their shell understands."""

import shlex
import shutil
import sys
from pathlib import Path

#: Said wherever the demo model is what answers.
DEMO_NOTICE = "The demo model is small and trained on drawings: it only knows coloured shapes, no photographs."


def drop_lines(environment_file: Path) -> list[str]:
    """Two ways to drop an image into a stack that runs, from another terminal."""
    return [
        f"source {shlex.quote(short(environment_file))}",
        f"{program('gsutil')} cp photo.jpg gs://$DROPLINE_BUCKET/",
        f"{program('dropline')} drop photo.jpg --wait",
    ]


def program(name: str) -> str:
    """The name alone where the shell finds it; else where it lies beside this Python, as `.venv/bin/gsutil`."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.exists():
        return name
    return shlex.quote(short(beside))


def short(path: Path) -> str:
    """Seen from the working directory where the path is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
