"""The contract between the rooms: names, task prompts and frozen values."""

import enum
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dropline.errors import ClientError, InvalidTask

#: Celery's name of the caption task: `args = [row_id]`, a hint. The rows in Postgres hold the work to do.
CAPTION_TASK = "dropline.caption"
#: Redis list of the messages that wake the workers.
CAPTION_QUEUE = "dropline.captions"
#: Redis channel of the workers' alarms; see `dropline.broker.alarms`.
ALARM_CHANNEL = "dropline.alarms"
#: Postgres channel: one JSON document per change of a row (`ChangeNotice`).
NOTIFY_CHANNEL = "captions"
#: Postgres channel: one JSON document per event of a filtered object (`FilteredNotice`).
FILTERED_CHANNEL = "filtered_objects"

#: Postgres channel: the id of a row that a person's edit has made due.
DUE_CHANNEL = "due_captions"

#: `captions.model`, and the value of `caption-model`, of a caption that a person wrote.
PERSON = "person"

#: Object metadata keys that Dropline writes.
METADATA_CAPTION = "caption"
METADATA_MODEL = "caption-model"
METADATA_PROMPT = "caption-prompt"
#: Object metadata key that a person sets to choose the task. Never written: a copy has the metadata of the source,
#: and a key of two writers would make Dropline's task the choice of a person (`docs/decisions/0015`).
METADATA_TASK = "caption-task"
#: Object metadata key of an image that was fetched for an `Idempotency-Key`: SHA-256 of the address.
METADATA_ADDRESS = "caption-address-sha256"

#: The longest text of a task prompt, in bytes of UTF-8: with the longest object name, the text must fit into an
#: index entry (2,704 bytes) and a notification (8,000 bytes, in JSON).
MAX_PROMPT_TEXT = 500


class TaskPrompt(enum.StrEnum):
    """Florence-2's task prompts, spelled as in the model card."""

    CAPTION = "<CAPTION>"
    DETAILED_CAPTION = "<DETAILED_CAPTION>"
    MORE_DETAILED_CAPTION = "<MORE_DETAILED_CAPTION>"
    OCR = "<OCR>"
    OCR_WITH_REGION = "<OCR_WITH_REGION>"
    OD = "<OD>"
    DENSE_REGION_CAPTION = "<DENSE_REGION_CAPTION>"
    REGION_PROPOSAL = "<REGION_PROPOSAL>"
    CAPTION_TO_PHRASE_GROUNDING = "<CAPTION_TO_PHRASE_GROUNDING>"
    REFERRING_EXPRESSION_SEGMENTATION = "<REFERRING_EXPRESSION_SEGMENTATION>"
    REGION_TO_SEGMENTATION = "<REGION_TO_SEGMENTATION>"
    OPEN_VOCABULARY_DETECTION = "<OPEN_VOCABULARY_DETECTION>"
    REGION_TO_CATEGORY = "<REGION_TO_CATEGORY>"
    REGION_TO_DESCRIPTION = "<REGION_TO_DESCRIPTION>"
    REGION_TO_OCR = "<REGION_TO_OCR>"

    @classmethod
    def named(cls, name: str) -> "TaskPrompt | None":
        """The task prompt written as `<OD>`, `OD` or `od`; None if there is no such task prompt."""
        return cls.__members__.get(name.strip().removeprefix("<").removesuffix(">").upper().replace("-", "_"))

    @property
    def takes_text(self) -> bool:
        """Whether words (a phrase, a caption) follow the prompt."""
        return self in _TAKES_TEXT

    @property
    def takes_region(self) -> bool:
        """Whether a box follows the prompt, as four `<loc_N>` tokens."""
        return self in _TAKES_REGION

    @property
    def is_caption(self) -> bool:
        """Whether the answer is a description of the whole image, which a person may have written already."""
        return self in (TaskPrompt.CAPTION, TaskPrompt.DETAILED_CAPTION, TaskPrompt.MORE_DETAILED_CAPTION)

    @property
    def gives_regions(self) -> bool:
        """Whether an answer may have boxes or polygons."""
        return self not in _GIVES_TEXT_ALONE


_GIVES_TEXT_ALONE = frozenset(
    {
        TaskPrompt.CAPTION,
        TaskPrompt.DETAILED_CAPTION,
        TaskPrompt.MORE_DETAILED_CAPTION,
        TaskPrompt.OCR,
        TaskPrompt.REGION_TO_CATEGORY,
        TaskPrompt.REGION_TO_DESCRIPTION,
        TaskPrompt.REGION_TO_OCR,
    }
)
_TAKES_TEXT = frozenset(
    {
        TaskPrompt.CAPTION_TO_PHRASE_GROUNDING,
        TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION,
        TaskPrompt.OPEN_VOCABULARY_DETECTION,
    }
)
_TAKES_REGION = frozenset(
    {
        TaskPrompt.REGION_TO_SEGMENTATION,
        TaskPrompt.REGION_TO_CATEGORY,
        TaskPrompt.REGION_TO_DESCRIPTION,
        TaskPrompt.REGION_TO_OCR,
    }
)
_TASK = re.compile(r"\s*(?:<(?P<prompt>[A-Za-z_]+)>|(?P<bare>[A-Za-z_-]+)\s*(?::|$))(?P<text>.*)", re.DOTALL)
_REGION = re.compile(r"(?:<loc_\d{1,3}>){4}")
# Lone surrogates have no encoding in UTF-8.
_UNSAFE_TEXT = re.compile(r"[<>\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A task prompt and its text."""

    #: The task prompt.
    prompt: TaskPrompt
    #: Words, four location tokens, or empty, as the prompt requires.
    text: str = ""

    @classmethod
    def parse(cls, value: str) -> "TaskRequest":
        """Read `<OD>`, `od`, `<OPEN_VOCABULARY_DETECTION>a car` or `open_vocabulary_detection: a car`.

        Raises:
            InvalidTask: the task is unknown, the text is missing, unexpected or unsafe.
        """
        match = _TASK.fullmatch(value)
        name = (match["prompt"] or match["bare"]) if match else ""
        prompt = TaskPrompt.named(name)
        if prompt is None:
            known = ", ".join(TaskPrompt)
            raise InvalidTask(f"{value[:80]!r} is not a task of Florence-2; use one of {known}")
        return cls(prompt, _checked_text(prompt, (match["text"] if match else "").strip()))

    @classmethod
    def from_parts(cls, task: str, text: str | None) -> "TaskRequest":
        """A task prompt, with its text given apart: `od`, `<OPEN_VOCABULARY_DETECTION>` and `a car`.

        Raises:
            InvalidTask: as of `parse`, or `task` has a text too.
        """
        if text is None:
            return cls.parse(task)
        name = task.strip().removeprefix("<").removesuffix(">")
        if not re.fullmatch(r"[A-Za-z_-]+", name):
            raise InvalidTask(f"{task[:80]!r} is not the name of a task; give the text of the task once")
        return cls.parse(f"{name}: {text}")

    def __str__(self) -> str:
        """The canonical spelling, as in `captions.task` and as input of the model's processor."""
        return f"{self.prompt.value}{self.text}"


def _checked_text(prompt: TaskPrompt, text: str) -> str:
    if prompt.takes_region:
        if not _REGION.fullmatch(text):
            raise InvalidTask(
                f"{prompt} needs a box as <loc_x1><loc_y1><loc_x2><loc_y2> (0 to 999), not {text[:80]!r}"
            )
    elif not prompt.takes_text:
        if text:
            raise InvalidTask(f"{prompt} takes no text, but was given {text[:80]!r}")
    elif not text:
        raise InvalidTask(f"{prompt} needs text after it, for example {prompt}a red circle")
    elif _UNSAFE_TEXT.search(text) or len(text.encode()) > MAX_PROMPT_TEXT:
        raise InvalidTask(
            f"the text of {prompt} must be at most {MAX_PROMPT_TEXT} bytes of UTF-8, "
            "without <, > and control characters"
        )
    return text


class Status(enum.StrEnum):
    """The states of a row."""

    QUEUED = "queued"
    RUNNING = "running"
    CAPTIONED = "captioned"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    DELETED = "deleted"

    @property
    def is_terminal(self) -> bool:
        """Whether the row has ended: no worker changes the row again without a request by a person."""
        return self not in (Status.QUEUED, Status.RUNNING)


class FilterReason(enum.StrEnum):
    """The rules by which the function filters an object: the object gets no row, and its event is counted."""

    NOT_INCLUDED = "not_included"
    EXCLUDED = "excluded"
    AUXILIARY = "auxiliary"
    FOLDER_PLACEHOLDER = "folder_placeholder"
    CONTENT_TYPE = "content_type"

    @property
    def setting(self) -> str:
        """The variable of the setting that decides; `fixed rule` without one."""
        return _FILTER_SETTINGS.get(self, "fixed rule")


_FILTER_SETTINGS = {
    FilterReason.NOT_INCLUDED: "DROPLINE_EVENTS__INCLUDE",
    FilterReason.EXCLUDED: "DROPLINE_EVENTS__EXCLUDE",
    FilterReason.AUXILIARY: "DROPLINE_EVENTS__AUXILIARY",
    FilterReason.CONTENT_TYPE: "DROPLINE_EVENTS__CONTENT_TYPES",
}


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object; with a task, the identity of a row."""

    bucket: str
    #: 1 to 1024 bytes of UTF-8; untrusted.
    name: str
    #: Version number of Cloud Storage; a newer version has a larger number.
    generation: int

    @property
    def uri(self) -> str:
        """`gs://bucket/name#generation`, as gsutil prints it."""
        return f"gs://{self.bucket}/{self.name}#{self.generation}"


_URI = re.compile(r"gs://(?P<bucket>[^/#]+)/(?P<name>.+?)(?:#(?P<generation>\d+))?", re.DOTALL)


def parse_uri(uri: str) -> tuple[str, str, int | None]:
    """Bucket, name and generation; `#` and digits at the end are the generation, as in gsutil.

    Raises:
        ClientError: not the URI of an object.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ClientError(
            f"{uri!r} is not the URI of an object; write gs://BUCKET/NAME or gs://BUCKET/NAME#GENERATION"
        )
    generation = match["generation"]
    return match["bucket"], match["name"], None if generation is None else int(generation)


@dataclass(frozen=True, slots=True)
class SeenMetadata:
    """The custom metadata of an object at its event, where no key is one that Dropline writes."""

    #: Version number of the metadata: as long as it is the same, nobody has changed them.
    metageneration: int
    #: Bytes of all keys and values in UTF-8.
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """Facts about the object from the event; all None for a notification with payload NONE."""

    content_type: str | None = None
    size_bytes: int | None = None
    md5_hash: str | None = None
    crc32c: str | None = None
    event_time: datetime | None = None
    #: None: the write-back reads the metadata first.
    metadata: SeenMetadata | None = None
    #: The caption of a person in the object's metadata; None without one.
    own_caption: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed row, with the attempt number as its fencing token."""

    row_id: int
    version: ObjectVersion
    task: TaskRequest
    #: Number of the attempt: a result is recorded only while the row has the same number.
    attempt: int
    #: Attempts since the last redrive that ended with the death of a process.
    lost_attempts: int
    #: Attempts before the last redrive.
    attempts_before_redrive: int = 0
    #: Seconds since the first transient error after the row was queued; 0 before one.
    failing_s: float = 0.0
    #: Attempts since the last redrive that ended at the soft time limit.
    slow_attempts: int = 0
    #: As in `ObjectFacts`; None too after a write-back.
    metadata: SeenMetadata | None = None
    #: As in `WriteBack`.
    is_reverted: bool = False
    #: As in `ObjectFacts`, in base64.
    md5_hash: str | None = None
    size_bytes: int | None = None
    #: The row that has the model's caption of identical bytes already.
    original: "Original | None" = None
    #: True if another unfinished row has the same bytes and task: another child may have it at work.
    has_rival: bool = False
    #: 0 fresh, 1 redone, 2 bulk.
    priority: int = 0

    @property
    def retries(self) -> int:
        """Attempts since the last redrive that ended with a transient error."""
        return max(0, self.attempt - 1 - self.lost_attempts - self.attempts_before_redrive)


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A recorded caption whose copy in the object's metadata is still missing."""

    row_id: int
    version: ObjectVersion
    task: str
    caption: str
    model: str
    #: Worker and child that hold the row.
    claimed_by: str
    #: Seconds since the first transient error of the write-back; 0 before one.
    failing_s: float = 0.0
    #: As in `ObjectFacts`; None for a second try.
    metadata: SeenMetadata | None = None
    #: True if a person has put back the model's caption: it replaces an edited one in the metadata.
    is_reverted: bool = False


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The result of a write-back."""

    #: True if the metadata now has the caption, whole or shortened.
    written: bool
    #: `metadata_shortened`, `metadata_left_out`, `metadata_kept` (a person's caption) or an error's code;
    #: None: the whole caption was written.
    code: str | None = None
    #: The same in words, for the row.
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """The engine's answer for one image."""

    #: A caption or OCR text; for structured tasks the labels, separated by commas.
    text: str
    #: Boxes, polygons and labels in pixels of the upright original; None for plain text tasks.
    result: dict[str, Any] | None
    #: Checkpoint as configured, for example `florence-community/Florence-2-base-ft`.
    model: str
    #: Revision of the checkpoint (a commit, or a digest of local weights).
    model_revision: str


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Width and height of the upright original, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Original:
    """A row whose caption is the model's own, for a row with identical bytes."""

    row_id: int
    caption: Caption
    image: Dimensions
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ChangeNotice:
    """A notification on `NOTIFY_CHANNEL` about one changed row."""

    id: int
    bucket: str
    object_name: str
    generation: int
    task: str
    status: Status
    #: Whether the caption has reached the object's metadata.
    metadata_written: bool = False
    #: Number of the transaction in Postgres.
    changed_in: int = 0


@dataclass(frozen=True, slots=True)
class FilteredNotice:
    """A notification on `FILTERED_CHANNEL`: the function has filtered an object version."""

    version: ObjectVersion
    #: A `FilterReason`, or that of another release.
    reason: str
    #: The variable of the setting that decides, or `fixed rule`.
    setting: str
