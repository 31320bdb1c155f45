"""Plan uploads (files and their object names), and run several uploads at a time."""

import enum
import mimetypes
import os
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
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".avifs": "image/avif",
    ".bmp": "image/bmp",
    ".heic": "image/heic",
    ".heics": "image/heic",
    ".heif": "image/heif",
    ".heifs": "image/heif",
    ".hif": "image/heif",
    ".jfif": "image/jpeg",
    ".jp2": "image/jp2",
    ".jpe": "image/jpeg",
    ".jxl": "image/jxl",
    ".mpo": "image/jpeg",
    ".pjp": "image/jpeg",
    ".pjpeg": "image/jpeg",
    ".tga": "image/x-tga",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
_RAW_PHOTOGRAPHS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".kdc", ".mef", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_TYPES = mimetypes.MimeTypes()
for _extension, _type in (_IMAGE_TYPES | dict.fromkeys(_RAW_PHOTOGRAPHS, "image/x-raw")).items():
    _TYPES.add_type(_type, _extension)
#: Bytes at the beginning of a file that decide whether the file is an image. A comment of an SVG may be long.
_HEAD_BYTES = 65_536
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


class LeftOut(enum.StrEnum):
    """Why an entry of a directory is not uploaded."""

    NO_IMAGE = "no image by name and first bytes"
    HIDDEN = "hidden"
    SPECIAL = "no regular file"
    UNREADABLE = "a directory that cannot be read"


@dataclass(frozen=True, slots=True)
class Plan:
    """The uploads, and the entries of directories that are left out."""

    uploads: tuple[Upload, ...]
    left_out: tuple[tuple[Path, LeftOut], ...] = ()

    def summary(self) -> dict[LeftOut, list[Path]]:
        """The entries left out, by reason."""
        found: dict[LeftOut, list[Path]] = {}
        for path, reason in self.left_out:
            found.setdefault(reason, []).append(path)
        return found


def plan_uploads(
    paths: Sequence[Path], prefix: str = "", is_image: Callable[[bytes], bool] = lambda _head: False
) -> Plan:
    """Plan the upload of files, and of all images below directories; object names begin with the directory's name.

    A file in a directory is an image by the extension of its name, or by its first bytes.

    Args:
        paths: files and directories.
        prefix: put before every object name.
        is_image: whether the first bytes of a file are those of an image; by default the extensions decide alone.

    Raises:
        ClientError: a path does not exist, no file is left, two files have the same object name, or an object name
            is not allowed.
    """
    uploads: list[Upload] = []
    left_out: list[tuple[Path, LeftOut]] = []
    for path in paths:
        if path.is_dir():
            for found, reason in _entries_below(path, is_image):
                if reason is None:
                    name = f"{prefix}{path.resolve().name}/{found.relative_to(path).as_posix()}"
                    uploads.append(_as_bytes_unless_image(_upload(found, name)))
                else:
                    left_out.append((found, reason))
        elif path.exists():
            uploads.append(_as_bytes_unless_image(_upload(path, f"{prefix}{path.name}")))
        else:
            raise ClientError(f"{path} is not there; check the path")
    plan = Plan(tuple(uploads), tuple(left_out))
    if not uploads:
        counts = "".join(f", {len(found)} × {reason}" for reason, found in plan.summary().items())
        raise ClientError(
            f"no image in {', '.join(map(str, paths))}{counts}; give the paths of files to drop any file"
        )
    _refuse_collisions(uploads)
    return plan


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


def _entries_below(directory: Path, is_image: Callable[[bytes], bool]) -> Iterator[tuple[Path, LeftOut | None]]:
    """Everything below a directory but readable directories, sorted; None: the file is to be uploaded."""
    unreadable: list[Path] = []
    found: list[Path] = []
    for root, directories, files in os.walk(
        directory, onerror=lambda error: unreadable.append(Path(error.filename))
    ):
        found += (Path(root, name) for name in files)
        found += (link for name in directories if (link := Path(root, name)).is_symlink())
    yield from ((path, LeftOut.UNREADABLE) for path in sorted(unreadable))
    yield from ((path, _why_left_out(path, directory, is_image)) for path in sorted(found))


def _why_left_out(path: Path, directory: Path, is_image: Callable[[bytes], bool]) -> LeftOut | None:
    if any(part.startswith(".") for part in path.relative_to(directory).parts):
        return LeftOut.HIDDEN
    if not path.is_file():
        return LeftOut.SPECIAL
    return None if _is_image_type(content_type(path.name)) or _head_is_image(path, is_image) else LeftOut.NO_IMAGE


def _head_is_image(path: Path, is_image: Callable[[bytes], bool]) -> bool:
    """True for an unreadable file too: its upload reports the error."""
    try:
        with path.open("rb") as file:
            return is_image(file.read(_HEAD_BYTES))
    except OSError:
        return True


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
    return _TYPES.guess_type(name)[0]


def _is_image_type(kind: str | None) -> bool:
    return kind is not None and kind.startswith("image/")


def _as_bytes_unless_image(upload: Upload) -> Upload:
    """Upload a file without an image's extension as octet-stream: the worker inspects the bytes."""
    kind = upload.content_type if _is_image_type(upload.content_type) else "application/octet-stream"
    return replace(upload, content_type=kind)


def _refuse_collisions(uploads: Sequence[Upload]) -> None:
    by_name = defaultdict(list)
    for upload in uploads:
        by_name[upload.name].append(str(upload.path))
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise ClientError(
                f"{' and '.join(paths)} would both become {name!r}; drop each separately, with its own --prefix"
            )
