"""Prints `constraints.txt`: the exact version of everything in this environment.

    python -m tools.pin > constraints.txt

Dropline itself is left out, and so are local version labels (`2.13.0+cpu`): which build of torch is installed is
the business of the machine that installs it.
"""

import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

_HEADER = "# Exact versions of everything that `make test` runs with. Made by `make constraints`."
#: What makes environments, not what is in them.
_INSTALLERS = frozenset({"pip", "setuptools", "wheel"})


def pins(installed: Iterable[tuple[str, str]]) -> list[str]:
    """One `name==version` per distribution, by normalised name, sorted."""
    found = {_normalised(name): version.partition("+")[0] for name, version in installed}
    return [f"{name}=={found[name]}" for name in sorted(found.keys() - _INSTALLERS)]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_editable(distribution: Distribution) -> bool:
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def main() -> None:
    """Print the pins of the environment this runs in."""
    installed = [(each.name, each.version) for each in distributions() if not _is_editable(each)]
    sys.stdout.write("\n".join([_HEADER, *pins(installed)]) + "\n")


if __name__ == "__main__":
    main()
