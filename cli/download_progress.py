"""The progress of a model's download, as a bar on a terminal and as a few lines elsewhere."""

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cli.console import stderr_console

#: Lines of a whole download without a terminal.
_LINES = 10
_MEGABYTE = 1_000_000


class DownloadProgress:
    """Shows the received and all bytes of a download; no bar for a model in the cache."""

    def __init__(self) -> None:
        console = stderr_console()
        columns = (DownloadColumn(), BarColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn("model"), *columns, console=console, transient=True)
        self._task = self._bar.add_task("model", total=None)
        self._lines = 0

    def __call__(self, done: int, total: int) -> None:
        """Show a later state of the download."""
        if self._bar.console.is_terminal:
            self._show(done, total)
        else:
            self._print(done, total)

    def _show(self, done: int, total: int) -> None:
        self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._bar.stop()

    def _print(self, done: int, total: int) -> None:
        if done * _LINES >= self._lines * total:
            typer.echo(f"model     {done / _MEGABYTE:.0f} of {total / _MEGABYTE:.0f} MB downloaded")
            self._lines = done * _LINES // max(total, 1) + 1
