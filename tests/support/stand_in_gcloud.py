"""Stand-ins for `gcloud` and `terraform` on the PATH: they record calls, refuse unknown flags, keep what was made.

The stand-in refuses what Google refuses: a call of a service that is not enabled, a repository or a bucket that
exists, also in another project, and a bucket in a location that a policy does not allow. As gcloud does, it makes
the bucket for the sources of a build in the multi-region US if that bucket is missing.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ALWAYS = frozenset({"--project", "--format", "--filter"})
#: Commands of gcloud and their flags, from the reference of gcloud; each also has `_ALWAYS`.
COMMANDS: dict[tuple[str, ...], frozenset[str]] = {
    ("services", "enable"): frozenset(),
    ("artifacts", "repositories", "list"): frozenset({"--location"}),
    ("artifacts", "repositories", "create"): frozenset({"--location", "--repository-format"}),
    ("storage", "buckets", "list"): frozenset(),
    ("storage", "buckets", "describe"): frozenset(),
    ("storage", "buckets", "create"): frozenset(
        {"--location", "--uniform-bucket-level-access", "--public-access-prevention"}
    ),
    ("storage", "buckets", "update"): frozenset({"--versioning"}),
    ("storage", "cp"): frozenset(),
    ("storage", "objects", "describe"): frozenset(),
    ("beta", "builds", "submit"): frozenset(
        {"--config", "--substitutions", "--gcs-source-staging-dir", "--service-account"}
    ),
}
#: The service of each group of commands.
_SERVICES = {
    "artifacts": "artifactregistry.googleapis.com",
    "beta": "cloudbuild.googleapis.com",
}


@dataclass(frozen=True)
class Cloud:
    """A directory with the programs, and with what they recorded."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, *programs: str) -> "Cloud":
        """Write the programs."""
        (directory / "bin").mkdir(parents=True)
        root = Path(__file__).parents[2]
        for program in programs:
            path = directory / "bin" / program
            path.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
                f"from tests.support.stand_in_gcloud import main\n"
                f"sys.exit(main({program!r}, {str(directory)!r}))\n"
            )
            path.chmod(0o755)
        cloud = cls(directory)
        cloud.write({})
        return cloud

    def read(self) -> dict[str, Any]:
        """What the programs keep.

        `waits`: calls until a service is in effect, or until there is a caption. `taken`: buckets of other
        projects, of which those in `readable` answer. `locations`: those that a policy allows; empty: all.
        `builds`: what Cloud Build says to the next builds, in place of building.
        """
        lists = (
            "services",
            "repositories",
            "buckets",
            "taken",
            "readable",
            "versioned",
            "refuse",
            "locations",
            "builds",
        )
        empty: dict[str, Any] = {name: [] for name in lists} | {"waits": 0}
        return empty | json.loads((self.directory / "state.json").read_text())

    def write(self, state: dict[str, Any]) -> None:
        """Change what the programs keep."""
        (self.directory / "state.json").write_text(json.dumps(state))

    def calls(self) -> list[list[str]]:
        """All calls, each with its program."""
        log = self.directory / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def environment(self, **variables: str) -> dict[str, str]:
        """An environment with the programs alone before the system's."""
        return {
            "PATH": f"{self.directory / 'bin'}:/usr/bin:/bin",
            "PAUSE_S": "0",
            "BUILD_PAUSE_S": "0",
            **variables,
        }


def main(program: str, directory: str) -> int:
    """Run one call."""
    cloud, words = Cloud(Path(directory)), sys.argv[1:]
    with (cloud.directory / "calls").open("a") as log:
        log.write(json.dumps([program, *words]) + "\n")
    if program == "terraform":
        return 0
    state = cloud.read()
    told = _refusal(state, words)
    if told is None:
        _run(state, words)
    cloud.write(state)
    if told is not None:
        print(f"ERROR: (gcloud) {told}", file=sys.stderr)
    return int(told is not None)


def command_of(words: list[str]) -> tuple[str, ...] | None:
    """The command at the beginning of a call."""
    return next((command for command in COMMANDS if tuple(words[: len(command)]) == command), None)


def _refusal(state: dict[str, Any], words: list[str]) -> str | None:
    command = command_of(words)
    if command is None:
        return f"Invalid choice: {words}"
    unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - COMMANDS[command] - _ALWAYS
    if unknown:
        return f"unrecognized arguments: {sorted(unknown)}"
    if "--project=" in words:
        return "argument --project: Bad value []"
    service = _SERVICES.get(words[0])
    if service is not None and (service not in state["services"] or state["waits"] > 0):
        state["waits"] -= 1
        return f"{service} has not been used in project p before or it is disabled"
    if " ".join(command) in state["refuse"]:
        return "PERMISSION_DENIED: The caller does not have permission"
    if command[-1] == "create" and _name(words) in (*state["repositories"], *state["buckets"], *state["taken"]):
        return f"HTTPError 409: {_name(words)} is taken"
    if command[1] == "buckets":
        return _bucket_refusal(state, command[-1], words)
    return _build_refusal(state, words) if command[-1] == "submit" else None


def _bucket_refusal(state: dict[str, Any], verb: str, words: list[str]) -> str | None:
    if verb == "create":
        return _location_refusal(state, _flag(words, "--location") or "us")
    if verb == "describe" and _name(words) not in (*state["buckets"], *state["readable"]):
        taken = _name(words) in state["taken"]
        return "HTTPError 403: does not have storage.buckets.get access" if taken else "gs://x not found: 404."
    return None


def _location_refusal(state: dict[str, Any], location: str) -> str | None:
    if location in (state["locations"] or [location]):
        return None
    return f"HTTPError 412: '{location}' violates constraint 'constraints/gcp.resourceLocations'"


def _build_refusal(state: dict[str, Any], words: list[str]) -> str | None:
    staging = _flag(words, "--gcs-source-staging-dir").removeprefix("gs://").partition("/")[0]
    if f"gs://{staging}" not in state["buckets"] and (told := _location_refusal(state, "us")):
        return told
    return state["builds"].pop(0) if state["builds"] else None


def _flag(words: list[str], name: str) -> str:
    return next((word.partition("=")[2] for word in words if word.startswith(f"{name}=")), "")


def _name(words: list[str]) -> str:
    return [word for word in words if not word.startswith("--")][-1]


def _run(state: dict[str, Any], words: list[str]) -> None:
    match command_of(words):
        case ("services", "enable"):
            state["services"] += [word for word in words[2:] if not word.startswith("--")]
        case ("artifacts", "repositories", "create"):
            state["repositories"].append(_name(words))
        case ("storage", "buckets", "create"):
            state["buckets"].append(_name(words))
        case ("storage", "buckets", "update"):
            state["versioned"].append(_name(words))
        case _:
            _show(state, words)


def _show(state: dict[str, Any], words: list[str]) -> None:
    match command_of(words):
        case (_, "repositories", "list"):
            print("\n".join(state["repositories"]))
        case (_, "buckets", "list"):
            wanted = next(word.removeprefix("--filter=name=") for word in words if word.startswith("--filter="))
            print("\n".join(each for each in state["buckets"] if each == f"gs://{wanted}"))
        case (_, "buckets", "describe"):
            print("True" if _name(words) in state["versioned"] else "")
        case ("storage", "objects", "describe"):
            state["waits"] -= 1
            print("" if state["waits"] > 0 else "a red circle")
