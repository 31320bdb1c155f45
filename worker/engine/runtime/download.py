"""Downloads the configured hub checkpoint into the local cache: `python -m worker.engine.runtime.download`.

The hub's client deletes the received part of a file when its download is interrupted. So the weights are
downloaded here first, into a file that a later download continues. Standard output has a JSON document per line:
`{"done": BYTES, "total": BYTES}`, or at the end `{"error": MESSAGE}` with exit code 1.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from dropline.errors import DroplineError, EngineUnavailable
from dropline.settings import EngineSettings, load_settings
from worker.engine.runtime.checkpoint import FILES, first_line, hub_errors, pinned_commit

#: Called with the received and all bytes of a download.
Report = Callable[[int, int], None]

_SHA256_DIGITS = 64


def download(settings: EngineSettings, report: Report) -> None:
    """Download the missing files of a hub checkpoint; without missing files no request is sent.

    Raises:
        SettingsError: the hub does not have the checkpoint, or no commit is set.
        EngineUnavailable: the hub cannot be reached, or a transfer broke; a later call continues the transfer.
    """
    name, commit = settings.checkpoint, pinned_commit(settings)
    with hub_errors(name, commit):
        if not _is_cached(name, commit):
            _download(name, commit, report)


def _is_cached(name: str, commit: str) -> bool:
    """True if the cache has the hub's list of files, and every file that the engine needs."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        get_cached_repo_tree(name, revision=commit)
    except CachedRepoTreeNotFoundError:
        return False
    return _has_snapshot(name, commit)


def _has_snapshot(name: str, commit: str) -> bool:
    """True if the cache has the checkpoint; an older client of the hub kept no list of files, so some may miss."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(name, revision=commit, allow_patterns=FILES, local_files_only=True)
    except LocalEntryNotFoundError:
        return False
    return True


def _download(name: str, commit: str, report: Report) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    try:
        # Fails at once if the hub is away; `snapshot_download` would try again for most of a minute.
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=commit))
    except Exception:
        if _has_snapshot(name, commit):
            return
        raise
    planned = snapshot_download(name, revision=commit, allow_patterns=FILES, dry_run=True)
    missing = [file for file in planned if file.will_download]
    progress = _Progress(report, sum(file.file_size or 0 for file in missing))
    for file in missing:
        if file.filename.endswith(".safetensors"):
            _download_resumably(name, commit, file.filename, progress)
    snapshot_download(name, revision=commit, allow_patterns=FILES)
    progress.finish()


def _download_resumably(name: str, commit: str, filename: str, progress: "_Progress") -> None:
    """Put a file into the place in the cache where the hub's client looks before a download."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    url = hf_hub_url(name, filename, revision=commit)
    metadata = get_hf_file_metadata(url)
    assert metadata.etag is not None
    folder = repo_folder_name(repo_id=name, repo_type="model")
    blob = Path(constants.HF_HUB_CACHE) / folder / "blobs" / metadata.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{blob.name}.partial")
    with partial.open("ab") as stream:
        # A second download of the same file waits for the first.
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not blob.exists():
            _receive(url, stream, metadata.size, progress)
            stream.flush()
            _check(partial, metadata.etag)
            partial.rename(blob)
    partial.unlink(missing_ok=True)


def _receive(url: str, stream: BinaryIO, size: int | None, progress: "_Progress") -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented, not in __all__

    received = os.fstat(stream.fileno()).st_size
    if size is not None and received > size:
        stream.truncate(0)
        received = 0
    bar: Any = progress.bar
    try:
        http_get(url, stream, resume_size=received, headers=build_hf_headers(), expected_size=size, tqdm_class=bar)
    except Exception as error:
        raise EngineUnavailable(
            f"the download of the model stopped after {progress.done:,} of {progress.total:,} bytes "
            f"({first_line(error)}): start again, and the download continues"
        ) from error


def _check(file: Path, etag: str) -> None:
    """Compare a large file with the hub's checksum; the ETag of a small file is none.

    Raises:
        EngineUnavailable: the file is damaged, and has been deleted.
    """
    if len(etag) != _SHA256_DIGITS:
        return
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != etag:
        file.unlink()
        raise EngineUnavailable("the model was damaged in the transfer and has been deleted: start again")


class _Progress:
    """Counts the received bytes of several files, and reports each change."""

    def __init__(self, report: Report, total: int) -> None:
        self.done = 0
        self.total = total
        self._report = report
        report(0, total)

    def advance(self, count: int) -> None:
        """Report further bytes; a negative number after a transfer that began anew."""
        self.done += count
        self._report(self.done, self.total)

    def finish(self) -> None:
        """Report the end: the small files are not counted one by one."""
        self._report(self.total, self.total)

    def bar(self, initial: int, **_: Any) -> "_Bar":
        """The progress bar of one file for the hub's client; `initial` is the size of an earlier part."""
        self.advance(initial)
        return _Bar(self)


class _Bar:
    """The methods of a tqdm bar that the hub's client calls."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def update(self, count: int) -> None:
        """Report further bytes."""
        self._progress.advance(count)


def _print(**document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Download the checkpoint of the settings; the exit code."""
    try:
        download(load_settings().engine, lambda done, total: _print(done=done, total=total))
    except DroplineError as error:
        _print(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
