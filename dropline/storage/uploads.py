"""Plan uploads (files and their object names), and run several uploads at a time."""

import mimetypes
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dropline.contract import ObjectVersion
from dropline.errors import ClientError

#: Types missing in the `mimetypes` table of some Python versions and systems.
_IMAGE_TYPES = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".webp": "image/webp",
}
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """One file and its object name."""

    path: Path
    name: str
    #: Guessed from the file's extension; None if the extension is unknown.
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A finished upload."""

    upload: Upload
    version: ObjectVersion
    #: End of the upload, by this machine's clock.
    at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """The uploads, and the skipped files of directories."""

    uploads: tuple[Upload, ...]
    #: Files in directories without the extension of an image.
    skipped: tuple[Path, ...]


def plan_uploads(paths: Sequence[Path], prefix: str = "") -> Plan:
    """Plan the upload of files, and of all images below directories; object names begin with the directory's name.

    Raises:
        ClientError: a path does not exist, no file is left, two files have the same object name, or an object name
            is not allowed.
    """
    uploads: list[Upload] = []
    skipped: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = list(_files_below(path, prefix))
            uploads += (upload for upload in found if _may_be_image(upload))
            skipped += (upload.path for upload in found if not _may_be_image(upload))
        elif path.exists():
            uploads.append(_as_bytes_unless_image(_upload(path, f"{prefix}{path.name}")))
        else:
            raise ClientError(f"{path} is not there; check the path")
    if not uploads:
        raise ClientError(f"no image in {', '.join(map(str, paths))}; give the paths of files to drop any file")
    _refuse_collisions(uploads)
    return Plan(tuple(uploads), tuple(skipped))


def upload_all(
    plan: Plan, upload: Callable[[Upload], Uploaded], parallel: int, on_done: Callable[[Uploaded], None]
) -> tuple[list[Uploaded], list[tuple[Upload, str]]]:
    """Run all uploads of a plan, `parallel` at a time.

    An error of Cloud Storage cancels all uploads that have not started, and is raised.

    Args:
        plan: files and object names.
        upload: uploads one file.
        parallel: number of threads.
        on_done: called in the caller's thread after each upload.

    Returns:
        The finished uploads, and the unreadable files with the reason.
    """
    done: list[Uploaded] = []
    unreadable: list[tuple[Upload, str]] = []
    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as threads:
        futures = {threads.submit(upload, each): each for each in plan.uploads}
        try:
            for future in as_completed(futures):
                try:
                    done.append(future.result())
                except OSError as error:
                    unreadable.append((futures[future], error.strerror or str(error)))
                else:
                    on_done(done[-1])
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return done, unreadable


def _files_below(directory: Path, prefix: str) -> Iterator[Upload]:
    base = directory.resolve()
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield _upload(path, f"{prefix}{base.name}/{relative.as_posix()}")


def _upload(path: Path, name: str) -> Upload:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ClientError(f"the name of {path!r} is not UTF-8, as object names must be; rename the file") from None
    if length > _LONGEST_NAME or "\n" in name or "\r" in name:
        raise ClientError(
            f"{path} would become an object with a name that is not allowed (at most {_LONGEST_NAME} bytes, "
            "no line breaks); rename the file, or choose another --prefix"
        )
    return Upload(path, name, content_type(name))


def content_type(name: str) -> str | None:
    """Guess the content type from an extension, equally on every machine; None if the extension is unknown."""
    types = mimetypes.MimeTypes()
    for extension, kind in _IMAGE_TYPES.items():
        types.add_type(kind, extension)
    return types.guess_type(name)[0]


def _may_be_image(upload: Upload) -> bool:
    if upload.content_type is None:
        return not upload.path.suffix
    return upload.content_type.startswith("image/")


def _as_bytes_unless_image(upload: Upload) -> Upload:
    """Upload a file given by its path even without an image's extension: the worker inspects the bytes."""
    return upload if _may_be_image(upload) else replace(upload, content_type="application/octet-stream")


def _refuse_collisions(uploads: Sequence[Upload]) -> None:
    by_name = defaultdict(list)
    for upload in uploads:
        by_name[upload.name].append(str(upload.path))
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise ClientError(
                f"{' and '.join(paths)} would both become {name!r}; drop each separately, with its own --prefix"
            )
