"""Words of the page: names of tasks and statuses, durations, sizes, and the advice for error codes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from db.redrivable import FAILED_ROWS
from dropline.contract import Status, TaskPrompt

TASKS: Mapping[TaskPrompt, str] = {
    TaskPrompt.CAPTION: "Caption",
    TaskPrompt.DETAILED_CAPTION: "Detailed caption",
    TaskPrompt.MORE_DETAILED_CAPTION: "Very detailed caption",
    TaskPrompt.OD: "Objects",
    TaskPrompt.OCR: "Text",
    TaskPrompt.OCR_WITH_REGION: "Text with places",
    TaskPrompt.DENSE_REGION_CAPTION: "Captions of regions",
    TaskPrompt.REGION_PROPOSAL: "Regions",
    TaskPrompt.OPEN_VOCABULARY_DETECTION: "Things by name",
    TaskPrompt.CAPTION_TO_PHRASE_GROUNDING: "Phrases of a sentence",
    TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION: "Outline by words",
    TaskPrompt.REGION_TO_CATEGORY: "Name of a region",
    TaskPrompt.REGION_TO_DESCRIPTION: "Caption of a region",
    TaskPrompt.REGION_TO_OCR: "Text of a region",
    TaskPrompt.REGION_TO_SEGMENTATION: "Outline of a region",
}

STATUSES: Mapping[Status, str] = {
    Status.QUEUED: "Waiting",
    Status.RUNNING: "At work",
    Status.CAPTIONED: "Captioned",
    Status.FAILED: "Failed",
    Status.SUPERSEDED: "Overwritten",
    Status.DELETED: "Deleted",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """An error code for people."""

    title: str
    #: The remedy for a person.
    remedy: str
    #: False where the same bytes fail in every attempt.
    is_redrive_useful: bool = True


_AGAIN = "Upload a good copy of the image."
_CONVERT = "Convert the image to JPEG, PNG or WebP, and upload it again."
_LATER = "Try again when the service answers again."
_ADVICE: Mapping[str, Advice] = {
    "empty_object": Advice("Empty file", "Upload the image again.", False),
    "not_an_image": Advice("No image", "Nothing, or upload the image instead of this file.", False),
    "unsupported_format": Advice("Format without a decoder", _CONVERT, False),
    "heic_unsupported": Advice("HEIC without a decoder", "Install dropline[heic] in the workers, then try again."),
    "truncated_image": Advice("Cut-off file", _AGAIN, False),
    "corrupt_image": Advice("Damaged image", _AGAIN, False),
    "invalid_image": Advice("Damaged image", _AGAIN, False),
    "image_too_large": Advice(
        "Too many pixels", "Shrink the image, or raise DROPLINE_IMAGES__MAX_PIXELS or MAX_SIDE and try again."
    ),
    "image_too_complex": Advice("Too complex", "Save the image again in a simpler form, and upload it.", False),
    "decode_timeout": Advice(
        "Decoding takes too long",
        "Raise DROPLINE_IMAGES__DECODE_TIMEOUT_S, or let fewer children share the machine.",
    ),
    "decoder_crashed": Advice("The decoder ended by this file", _AGAIN),
    "object_too_large": Advice(
        "Too many bytes", "Shrink the file, or raise DROPLINE_EVENTS__MAX_SIZE_BYTES and try again."
    ),
    "image_refused": Advice("Over a limit", "Raise the limit that the message names, then try again."),
    "out_of_memory": Advice(
        "Needs too much memory", "Shrink the image, or raise DROPLINE_IMAGES__CHILD_MEMORY_BYTES and try again."
    ),
    "invalid_task": Advice("Unknown task", "Correct the object's caption-task, and upload it again.", False),
    "inference_failed": Advice("The model fails on this image", "Try again with another model, or another task."),
    "repetitive_answer": Advice("The answer repeats itself", "Ask for another task, or use another model."),
    "non_finite_logits": Advice(
        "Numbers overflow", "Set DROPLINE_ENGINE__DTYPE=float32 in the workers, then try again."
    ),
    "worker_lost": Advice("The worker was killed", "Give the workers more memory, then try again."),
    "decoder_lost": Advice("The decoder was killed", "Give the workers more memory, then try again."),
    "engine_lost": Advice("The model's process ended", "Look at the GPU and its memory, then try again."),
    "inference_timeout": Advice(
        "The model takes too long", "Raise DROPLINE_WORKER__SOFT_TIME_LIMIT_S, or free the GPU, then try again."
    ),
    "internal_error": Advice("Unexpected error", "Report the message; try again with a version that has the fix."),
    "storage_unavailable": Advice("Cloud Storage was away", _LATER),
    "storage_refused": Advice("Cloud Storage refused", "Remove the reason in the message, then try again."),
    "database_unavailable": Advice("Postgres was away", _LATER),
    "broker_unavailable": Advice("Redis was away", _LATER),
    "statement_refused": Advice("Postgres refused", "Remove the reason in the message, then try again."),
    "engine_unavailable": Advice("The model was not ready", "Try again when the workers are ready."),
    "decoder_unavailable": Advice(
        "The decoder did not start", "Remove the reason in the message, then try again."
    ),
    "precondition_lost": Advice("Another writer was faster", "Try again when the other writer has ended."),
    "access_denied": Advice("A right is missing", "Grant the right that the message names, then try again."),
}
_UNKNOWN = Advice("Failed", "Remove the reason in the message, then try again.")


def advice_for(error_code: str | None) -> Advice:
    """The title and the remedy of an error code; general words for the code of another release."""
    return _ADVICE.get(error_code or "", _UNKNOWN)


def is_redrive_offered(error_code: str | None) -> bool:
    """False for failed rows that fail again with the same bytes, and for those that a redrive leaves out."""
    return advice_for(error_code).is_redrive_useful and (error_code or "") not in FAILED_ROWS.excluded_codes


def status_words(status: Status) -> str:
    """A status for people."""
    return STATUSES[status]


def duration_words(duration: timedelta) -> str:
    """`0.3 s`, `12 s`, `4 min`, `3 h` or `2 days`; negative durations, of clocks that differ, are 0."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86_400)} days"


def size_words(size_bytes: int) -> str:
    """`812 bytes`, `34 kB`, `2.1 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    if size_bytes < 1_000_000:
        return f"{round(size_bytes / 1000)} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
