r"""The files of exact versions: `constraints.txt`, and `constraints-cuda.txt` for the packages of torch for CUDA.

    python -m tools.pins > constraints.txt
    pip install --dry-run --ignore-installed --quiet --report report.json --extra-index-url INDEX \
        torch==VERSION+cu126
    python -m tools.pins --cuda report.json > constraints-cuda.txt

`constraints.txt` has the packages of the current environment, without Dropline and without local version labels
(`2.13.0+cpu`): each machine chooses its build of torch. `make test` does not run with torch for CUDA, so the
second file is made from pip's report of a dry run on Linux, with the Python of the container images and the
Dockerfile's index. The pin of torch has the label, so no other build is installed.
"""

import argparse
import json
import re
import sys
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

_HEADER = "# Exact versions of everything that `make test` runs with. Made by `make constraints`."
_CUDA_HEADER = "# What torch {torch} for CUDA brings beside constraints.txt. Made by tools/pins.py."
#: Tools that create environments.
_INSTALLERS = frozenset({"pip", "setuptools", "wheel"})


def pins(installed: Iterable[tuple[str, str]]) -> list[str]:
    """One `name==version` per distribution, by normalised name, sorted."""
    found = {normalised(name): version.partition("+")[0] for name, version in installed}
    return [f"{name}=={found[name]}" for name in sorted(found.keys() - _INSTALLERS)]


def cuda_pins(report: dict[str, Any], pinned: Collection[str]) -> list[str]:
    """The lines of `constraints-cuda.txt`: a header and one `name==version` per package without another pin.

    A package with a local version label, which is torch, has a line in any case.

    Args:
        report: pip's report, with torch.
        pinned: normalised names in `constraints.txt`.
    """
    versions = {normalised(each["metadata"]["name"]): each["metadata"]["version"] for each in report["install"]}
    header = _CUDA_HEADER.format(torch=versions["torch"].partition("+")[0])
    labelled = {name for name, version in versions.items() if "+" in version}
    return [header, *(f"{name}=={versions[name]}" for name in sorted(versions.keys() - set(pinned) | labelled))]


def names_in(constraints: str) -> set[str]:
    """The pinned names of a file of constraints."""
    return {line.partition("==")[0] for line in constraints.splitlines() if "==" in line and line[0] != "#"}


def normalised(name: str) -> str:
    """The name that installers compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_editable(distribution: Distribution) -> bool:
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def main() -> None:
    """Print one of the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", type=Path, metavar="REPORT", help="pip's report of torch for CUDA")
    report: Path | None = parser.parse_args().cuda
    if report is None:
        installed = [(each.name, each.version) for each in distributions() if not _is_editable(each)]
        lines = [_HEADER, *pins(installed)]
    else:
        constraints = (Path(__file__).resolve().parents[1] / "constraints.txt").read_text()
        lines = cuda_pins(json.loads(report.read_text()), names_in(constraints))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
