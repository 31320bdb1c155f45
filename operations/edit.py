"""Edit: a person's caption replaces the caption of row and metadata; revert: the model's caption again."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from db import edits
from db.edits import EditedRow, EditTarget
from db.session import Connection, Database
from db.start_check import EDITOR
from dropline.errors import CaptionUnusable, NoSuchCaption
from dropline.object_metadata import MAX_BYTES, bytes_of
from dropline.settings import Settings
from operations.due_work import call_workers, open_operator

_SAVED = (
    "the change is saved, and a worker carries it out when it starts or reconnects; a repetition sends the "
    "message again"
)
# Line breaks and tabs stay in the row, and are spaces in the metadata.
_UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MOST_NAME = 100


@dataclass(frozen=True, slots=True)
class Editor:
    """Edits captions, and has a worker write the metadata. Threads may share the object."""

    database: Database
    #: Enqueues a row by id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]

    def edit(self, target: EditTarget, caption: str, *, by: str, if_tag: str | None = None) -> EditedRow:
        """Give the row a person's caption. The same caption twice has no effect.

        A row without a caption, also a failed row, is captioned afterwards. A claim in flight loses the row.

        Args:
            target: the row.
            caption: of the person; untrusted.
            by: name of the person.
            if_tag: tag of the caption the person has read; None: the edit replaces any caption.

        Raises:
            NoSuchCaption: no such row.
            RowEnded: the object version was deleted or overwritten.
            CaptionUnusable: the text is empty or too long, or has control characters.
            EditConflict: the caption has another tag.
            DatabaseUnavailable, AccessDenied.
            BrokerUnavailable, ScalingDenied, TransientError: the caption is saved, and the row is due.
        """
        words = checked_caption(caption)
        name = checked_name(by)
        return self._run(lambda connection: edits.edit(connection, target, words, name, if_tag))

    def revert(self, target: EditTarget, *, by: str, if_tag: str | None = None) -> EditedRow:
        """Put back the newest caption of the model. Raises as `edit`.

        Where the model has never captioned the row, a worker does; the person's caption stays until then.
        """
        name = checked_name(by)
        return self._run(lambda connection: edits.revert(connection, target, name, if_tag))

    def _run(self, change: Callable[[Connection], EditedRow]) -> EditedRow:
        try:
            with self.database.transaction() as connection:
                edited = change(connection)
        except NoSuchCaption as error:
            raise NoSuchCaption(
                f"{error}; an object that is in the bucket already gets its row by `dropline backfill`, and one "
                "of a further task by `dropline recaption --to-task`"
            ) from None
        # After a repetition too: the first call may have died between the commit and the message.
        if edited.is_due:
            call_workers(edited.row.id, self.enqueue, self.wake, _SAVED)
        return edited


def checked_caption(caption: str) -> str:
    """The caption without white space around; the limits are of `checked_caption` in Postgres.

    Raises:
        CaptionUnusable: no text is left, or more than 8,192 bytes of UTF-8, or characters which Postgres or a
            header of HTTP cannot hold.
    """
    words = caption.strip(" \t\r\n")
    if not words:
        raise CaptionUnusable("the caption is empty: give it at least one character")
    if match := _UNUSABLE.search(words):
        raise CaptionUnusable(
            f"the caption has the character U+{ord(match[0]):04X}, which cannot be stored: leave it out"
        )
    if (size := bytes_of(words)) > MAX_BYTES:
        raise CaptionUnusable(f"the caption has {size} bytes of UTF-8: shorten it to {MAX_BYTES}")
    return words


def checked_name(name: str) -> str:
    """The name of a person, without characters that cannot be stored; 100 characters at most."""
    return _UNUSABLE.sub(" ", name).strip()[:_MOST_NAME]


@contextmanager
def open_editor(settings: Settings, on_wait: Callable[[str], None]) -> Iterator[Editor]:
    """An editor of a command; connections are opened on first use.

    Args:
        settings: with Postgres, Redis and, for scale to zero, the worker pool.
        on_wait: called before each pause of a call to wake the worker pool, with the reason.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, and no credentials for Cloud Run were found.
    """
    with open_operator(settings, "dropline-edit", on_wait, needs=EDITOR, statement_timeout_ms=0) as operator:
        yield Editor(operator.database, operator.enqueue, operator.wake)
