"""Submits the inputs of `dropline caption`, several at a time, and waits for their answers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cli import results
from cli.console import make_progress, print_note
from cli.inputs import Input, Kind
from cli.wait import CaptionWaiter
from db.reads import CaptionRecord
from db.session import reader_settings
from dropline.contract import FilteredNotice, ObjectVersion, Status, TaskRequest
from dropline.deadline import Deadline
from dropline.errors import AccessDenied, ClientError, DroplineError, PermanentError
from dropline.settings import Settings
from operations.submit import Submissions, Submitted, open_submissions

#: Submissions at a time.
_PARALLEL = 8


@dataclass(slots=True)
class Answer:
    """One input, and its outcome so far."""

    input: Input
    submitted: Submitted | None = None
    #: Why the input was not submitted.
    error: DroplineError | None = None
    row: CaptionRecord | None = None
    filtered: FilteredNotice | None = None
    #: Rows of an answer that did not come in time.
    unfinished: list[CaptionRecord] = field(default_factory=list)

    @property
    def is_missing(self) -> bool:
        """True if the input was submitted, and no answer came in time."""
        return self.error is None and self.row is None and self.filtered is None

    def refusal(self) -> str | None:
        """Why there is no caption, in words that begin with the input; None with a caption, or without an end."""
        shown = self.input.shown
        if self.error is not None:
            told = str(self.error)
            return told if told.lstrip("'").startswith(shown) else f"{shown}: {told}"
        if self.filtered is not None:
            return f"{shown} is filtered and gets no caption ({self.words()})"
        if self.row is not None and self.row.status is not Status.CAPTIONED:
            uploaded = "" if self.input.kind is Kind.OBJECT else f"; uploaded as {self.row.version.uri}"
            return f"{shown} is {self.row.status} ({self.words()}){uploaded}"
        return None

    def words(self) -> str:
        """The caption, or why there is none."""
        if self.row is not None:
            return results.caption_or_error(self.row)
        if self.filtered is not None:
            return results.filter_words(self.filtered.reason, self.filtered.setting)
        return "no answer yet" if self.error is None else f"{self.error.code}: {self.error}"

    def document(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {"input": self.input.text, **self._outcome()}

    def _outcome(self) -> dict[str, Any]:
        if self.row is not None:
            return results.document(self.row)
        if self.filtered is not None:
            return results.filtered_document(self.filtered)
        if self.submitted is None:
            assert self.error is not None
            return {"error_code": self.error.code, "error": str(self.error)}
        version = self.submitted.version
        return results.unfinished_document(version, {version: self.unfinished})


def ask(settings: Settings, inputs: Sequence[Input], task: TaskRequest | None, timeout_s: float) -> list[Answer]:
    """Submit all inputs without an error and wait for the answers; in the order of the inputs."""
    answers = [Answer(each, error=each.error) for each in inputs]
    if all(answer.error is not None for answer in answers):
        return answers
    uploads_only = all(each.kind is not Kind.OBJECT for each in inputs)
    with ExitStack() as stack:
        # Listening before the submissions, so that no notification is missed.
        waiter = stack.enter_context(CaptionWaiter(reader_settings(settings)))
        submissions = stack.enter_context(open_submissions(settings, print_note, uploads_only=uploads_only))
        progress = stack.enter_context(make_progress())
        bar = progress.add_task("captioned", total=len(answers), visible=len(answers) > 1)
        progress.advance(bar, sum(answer.error is not None for answer in answers))
        sender = _Sender(submissions, task, settings.events.max_size_bytes, max(timeout_s, 1))
        for answer in sender.send_all([answer for answer in answers if answer.error is None]):
            if answer.error is not None:
                progress.advance(bar)
        _wait(waiter, answers, timeout_s, lambda count: progress.advance(bar, count))
    return answers


@dataclass(frozen=True, slots=True)
class _Sender:
    """Submits inputs, several at a time."""

    submissions: Submissions
    task: TaskRequest | None
    max_bytes: int
    #: The longest time of an upload, in seconds.
    upload_s: float

    def send_all(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        """Submit; yields each answer when its input was submitted or refused.

        Raises:
            AccessDenied, TransientError: no input that has not started is submitted.
        """
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="submit") as threads:
            futures = {threads.submit(self._send, answer): answer for answer in answers}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, answer: Answer) -> None:
        try:
            answer.submitted = self._submit(answer.input)
        except AccessDenied:
            raise
        except (ClientError, PermanentError) as error:
            answer.error = error
        except OSError as error:
            reason = error.strerror or str(error)
            answer.error = PermanentError(f"{answer.input.text} could not be read: {reason}", code="unreadable")

    def _submit(self, each: Input) -> Submitted:
        if each.kind is Kind.OBJECT:
            return self.submissions.request(each.text, self.task)
        if each.kind is Kind.ADDRESS:
            return self.submissions.upload_from(each.text, task=self.task, upload_s=self.upload_s)
        deadline = Deadline.after(self.upload_s)
        with each.opened(self.max_bytes) as file:
            return self.submissions.upload(file, name=each.name, task=self.task, deadline=deadline)


def _wait(
    waiter: CaptionWaiter, answers: Sequence[Answer], timeout_s: float, advance: Callable[[int], None]
) -> None:
    sent = [(answer, answer.submitted) for answer in answers if answer.submitted is not None]
    by_version: dict[ObjectVersion, list[Answer]] = defaultdict(list)
    for answer, submitted in sent:
        by_version[submitted.version].append(answer)

    def on_end(version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        for answer in by_version[version]:
            answer.row = rows[0]
        advance(len(by_version[version]))

    def on_filtered(notice: FilteredNotice) -> None:
        for answer in by_version[notice.version]:
            answer.filtered = notice
        advance(len(by_version[notice.version]))

    # An upload has one row, with the task that the function has found.
    tasks = {each.version: each.task for answer, each in sent if answer.input.kind is Kind.OBJECT}
    unfinished = waiter.wait([*by_version], timeout_s, on_end, on_filtered, tasks=tasks)
    for version, rows in unfinished.items():
        for answer in by_version[version]:
            answer.unfinished = rows
