"""A shell with the variables of the stack's `env` file, without the stack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from cli.main import app
from dropline.contract import ObjectVersion, TaskRequest
from dropline.deadline import Deadline
from dropline.storage.bucket import NewObject, Storage
from dropline.storage.uploads import Upload, Uploaded

BUCKET = "cli-drops"
G1 = ObjectVersion(BUCKET, "a.jpg", 1)
#: A caption that would clear a screen, forge a line and turn text around, and the safe form on a screen.
HOSTILE = "\x1b[2Ja [bold]red[/bold] circle\n\u202e"
SHOWN = r"\x1b[2Ja [bold]red[/bold] circle\n\u202e"

AfterUpload = Callable[[ObjectVersion], object]


@dataclass(frozen=True)
class Finished:
    """The exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams."""
        return self.stdout + self.stderr


def run(*arguments: object) -> Finished:
    """Run a command in the test's process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return Finished(result.exit_code, result.stdout, result.stderr)


def act_after_upload(monkeypatch: pytest.MonkeyPatch, act: AfterUpload) -> None:
    """Run `act` after each upload, in place of the rest of Dropline: without the stack no events arrive."""
    upload = Storage.upload

    def upload_and_act(self: Storage, bucket: str, each: Upload, tasks: Sequence[TaskRequest] = ()) -> Uploaded:
        uploaded = upload(self, bucket, each, tasks)
        act(uploaded.version)
        return uploaded

    monkeypatch.setattr(Storage, "upload", upload_and_act)


def act_after_creation(monkeypatch: pytest.MonkeyPatch, act: AfterUpload) -> None:
    """As `act_after_upload`, for the uploads of `caption`."""
    create = Storage.create

    def create_and_act(
        self: Storage, bucket: str, name: str, new: NewObject, deadline: Deadline
    ) -> ObjectVersion | None:
        created = create(self, bucket, name, new, deadline)
        if created is not None:
            act(created)
        return created

    monkeypatch.setattr(Storage, "create", create_and_act)
