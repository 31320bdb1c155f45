"""Finds the files of a checkpoint: on the hub, in a directory, or in the packaged demo model.

Imports no torch: a missing checkpoint is reported before the seconds of that import.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dropline.demo_model import DEMO_MODEL
from dropline.errors import DroplineError, EngineUnavailable, SettingsError
from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION, EngineSettings

#: The package with the demo model; looked up, never imported.
_DEMO_PACKAGE = "local_emulators"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
#: The files of a checkpoint that the engine needs.
FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine."""

    #: As configured.
    name: str
    directory: Path
    #: Commit on the hub, or a digest of the weights.
    revision: str


def find_checkpoint(settings: EngineSettings) -> Checkpoint:
    """Find the configured checkpoint; downloads a hub checkpoint that is not in the cache.

    Raises:
        SettingsError: the checkpoint or revision does not exist, or a hub checkpoint is not pinned to a commit.
        EngineUnavailable: the hub cannot be reached.
    """
    name = settings.checkpoint
    if name == DEMO_MODEL:
        return _local(name, _demo_directory())
    if Path(name).is_dir():
        return _local(name, Path(name))
    if not _HUB_NAME.fullmatch(name):
        raise SettingsError(
            f"DROPLINE_ENGINE__CHECKPOINT is {name!r}, which is neither a directory, nor a hub name such as "
            f"{DEFAULT_CHECKPOINT}, nor {DEMO_MODEL!r}"
        )
    commit = pinned_commit(settings)
    return Checkpoint(name, _download(name, commit), commit)


def _demo_directory() -> Path:
    spec = find_spec(_DEMO_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        directory = Path(location) / "demo_model"
        if directory.is_dir():
            return directory
    raise SettingsError(
        "DROPLINE_ENGINE__CHECKPOINT is demo, but the demo model is not installed; install dropline with its "
        f"extra `local`, or unset the variable to use {DEFAULT_CHECKPOINT}"
    )


def _local(name: str, directory: Path) -> Checkpoint:
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise SettingsError(
            f"{directory} holds no *.safetensors file; point DROPLINE_ENGINE__CHECKPOINT to the directory of a "
            "Florence-2 checkpoint with safetensors weights (pickled ones are never loaded)"
        )
    digest = hashlib.sha256()
    for file in weights:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return Checkpoint(name, directory, f"sha256-{digest.hexdigest()[:12]}")


def pinned_commit(settings: EngineSettings) -> str:
    """The commit of a hub checkpoint.

    Raises:
        SettingsError: no commit is set, or not a commit.
    """
    default = DEFAULT_REVISION if settings.checkpoint == DEFAULT_CHECKPOINT else ""
    commit = settings.revision or default
    if not _COMMIT.fullmatch(commit):
        raise SettingsError(
            f"DROPLINE_ENGINE__REVISION is {commit!r}, but must pin {settings.checkpoint} to a commit of 40 "
            "hexadecimal digits; its page on the hub lists them under History"
        )
    return commit


def _download(name: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    with hub_errors(name, commit):
        return Path(snapshot_download(name, revision=commit, allow_patterns=FILES))


@contextmanager
def hub_errors(name: str, commit: str) -> Iterator[None]:
    """Turn errors of the hub's client into ours, each in one line with a remedy.

    Raises:
        SettingsError: the hub does not have the checkpoint at this commit.
        EngineUnavailable: the hub cannot be reached, or a transfer broke.
    """
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except DroplineError:
        raise
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SettingsError(
            f"the hub has no {name} at commit {commit}, or it needs a token ({first_line(error)}); check "
            "DROPLINE_ENGINE__CHECKPOINT, DROPLINE_ENGINE__REVISION and HF_TOKEN"
        ) from error
    except Exception as error:
        raise EngineUnavailable(
            f"the hub cannot be reached and {name} at {commit[:12]} is not in the local cache "
            f"({first_line(error)}): fetch it beforehand, where there is a network, with `hf download {name} "
            f"--revision {commit}`, or use the small packaged demo model "
            f"(DROPLINE_ENGINE__CHECKPOINT={DEMO_MODEL}; with `dropline up`: --model {DEMO_MODEL})"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, else the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
