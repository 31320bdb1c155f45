"""Progress bars on standard error; silent where that is no terminal."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.console import err
from db.reads import CaptionRecord
from dropline.contract import ObjectVersion
from dropline.storage.uploads import Uploaded


class Bars:
    """One bar for the uploads, one for the captions."""

    def __init__(self, total: int, *, waiting: bool) -> None:
        console = err()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._uploaded = self._progress.add_task("uploaded", total=total)
        self._ended = self._progress.add_task("captioned", total=total, visible=waiting)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def uploaded(self, _: Uploaded) -> None:
        """One more went up."""
        self._progress.advance(self._uploaded)

    def ended(self, _: ObjectVersion, __: list[CaptionRecord]) -> None:
        """One more came back."""
        self._progress.advance(self._ended)
