"""`dropline caption --annotate`: the picture with the boxes, polygons or text regions of its answer, as a file."""

from collections.abc import Sequence
from pathlib import Path

from cli.inputs import Input, Kind
from db.reads import CaptionRecord
from dropline.contract import TaskRequest
from dropline.errors import ClientError
from dropline.images.picture_formats import require_suffix
from dropline.regions import regions_of
from dropline.selection import Selection
from dropline.settings import Settings
from operations.drawing import draw


def require_drawable(path: Path, inputs: Sequence[Input], task: TaskRequest | None, settings: Settings) -> None:
    """Refuse a picture that cannot be drawn, before anything is uploaded.

    Without a task, an upload gets that of the rules; the task of an object of the bucket is not known yet.

    Raises:
        ClientError: there are several inputs, the task gives no regions, or the file cannot be written.
    """
    if len(inputs) > 1:
        raise ClientError("--annotate draws one picture; give one image")
    require_suffix(path)
    if not path.absolute().parent.is_dir():
        raise ClientError(f"{path.parent} is not a directory, so {path} cannot be written")
    if task is None and inputs[0].kind is not Kind.OBJECT:
        task = Selection(settings.events).usual_tasks(settings.submit.prefix)[0]
    if task is not None and not task.prompt.gives_regions:
        raise ClientError(_without_regions(str(task)))


def write_annotated(settings: Settings, row: CaptionRecord, path: Path) -> None:
    """Draw the regions of a captioned row on its object version, and write the picture.

    The picture is the captioned generation, so its regions fit.

    Raises:
        ClientError: the answer has no regions, or the file cannot be written.
        ObjectGone: the generation was overwritten or deleted.
        PermanentError, TransientError, AccessDenied: the object cannot be downloaded or decoded.
    """
    if not any(True for _ in regions_of(row.result)):
        raise ClientError(f"the answer to {row.task} has no boxes or polygons to draw; {path} was not written")
    picture = draw(settings, row.version, row.result, require_suffix(path))
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror or error}") from None


def _without_regions(task: str) -> str:
    return f"an answer to {task} has no boxes or polygons to draw; --task od, for example, asks for boxes"
