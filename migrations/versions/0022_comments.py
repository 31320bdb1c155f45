"""A comment on each column of each table and view, for readers of the schema in a client of Postgres.

Revision: 0022, after 0021. No row is read or written. Comments wait for no reader and no writer of a table.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_CAPTIONS = {
    "id": "Number of the row; a later row has a larger one.",
    "bucket": "Bucket of the object.",
    "object_name": "Name of the object in the bucket.",
    "generation": "Version of the object: a new upload of the same name has a larger one.",
    "task": "Task prompt with its text, such as <CAPTION>; * stands for all tasks of a deleted version.",
    "status": "queued, running, captioned, failed, superseded (overwritten before its caption) or deleted.",
    "caption": "Caption or text; for a task with regions, the labels. Present where status is captioned.",
    "result": "Boxes, polygons and labels of a task with regions, in pixels of the upright image; else NULL.",
    "model": "Checkpoint of the caption.",
    "model_revision": "Revision of the checkpoint.",
    "content_type": "Content type of the object at its event.",
    "size_bytes": "Size of the object in bytes.",
    "md5_hash": "MD5 of the bytes in base64; NULL for a composite object.",
    "crc32c": "CRC32C of the bytes in base64.",
    "width": "Width of the upright image in pixels.",
    "height": "Height of the upright image in pixels.",
    "attempts": "Claims so far.",
    "lost_attempts": "Claims whose process died, since the last redrive.",
    "lease_until": "A worker has the row until then; NULL: none has.",
    "error_code": "Reason of a failure, or of a caption that is not in the metadata; docs/error-codes.md has all.",
    "error": "The error in words.",
    "event_time": "Time of the object's event, by Cloud Storage.",
    "queued_at": "When the row was queued, for the last time.",
    "started_at": "When the last attempt started.",
    "captioned_at": "When the caption was recorded.",
    "metadata_written_at": "When the caption was written to the object's metadata; NULL: it is not there.",
    "updated_at": "When the row changed.",
}
_CAPTIONS_ALONE = {
    "attempts_before_redrive": "Claims before the last redrive, which are no retries.",
    "write_back": "True for the answer that the object's metadata gets; false for further tasks.",
    "changed_in": "Number of the transaction of the last change that listeners were told.",
    "priority": "0 fresh, 1 redone, 2 bulk: due rows of a smaller number are claimed first.",
    "not_before": "A queued row is claimed then or later; NULL: at once.",
    "failing_since": "First passing error since the row was queued; NULL: none.",
    "redo": "True for a caption that is made again; the row has the old one until then.",
    "claimed_by": "Worker and child of the last claim.",
    "slow_attempts": "Claims that ended at the time limit, since the last redrive.",
    "metageneration": "Version of the object's metadata at its event.",
    "metadata_bytes": "Bytes of the object's metadata at its event.",
    "redo_failed_at": "When the last redo was given up, with the reason in error; NULL: it was not.",
    "edited_by": "Who wrote the caption; NULL: the model.",
    "edited_at": "When a person wrote the caption; NULL: the model wrote it.",
    "reverted_by": "Who put the model's caption back, since the last edit.",
    "reverted_at": "When the model's caption was put back, since the last edit.",
}
_HISTORY = {
    "id": "Number of the replaced caption.",
    "caption_id": "Row of captions whose caption this was.",
    "caption": "The replaced caption.",
    "result": "Its boxes, polygons and labels; NULL for a text.",
    "model": "Its checkpoint.",
    "model_revision": "Revision of its checkpoint.",
    "captioned_at": "When it was recorded.",
    "edited_by": "Who wrote it; NULL: the model.",
    "edited_at": "When a person wrote it; NULL: the model wrote it.",
    "replaced_at": "When another caption replaced it.",
}
_BACKFILLS = {
    "id": "Number of the backfill.",
    "source": "Bucket with its prefix or glob, or list, as given.",
    "options": "What else decides which objects get which rows.",
    "since": "Objects created before are left out; NULL: none.",
    "cursor": "How far each part of the source is read.",
    "listed": "Objects read so far.",
    "existing": "Rows that were in the table before.",
    "queued": "Rows inserted for workers.",
    "adopted": "Rows inserted with the caption of a person, from the object's metadata.",
    "failed": "Rows inserted as failed: their objects are refused without a download.",
    "ended": "Rows of versions that were gone by then.",
    "queued_bytes": "Bytes of the objects of the queued rows.",
    "left_out": "Numbers of objects left out, by reason.",
    "first_id": "Smallest id of the inserted rows.",
    "last_id": "Largest id of the inserted rows.",
    "runner": "Process that carries the backfill out.",
    "started_at": "When it began.",
    "updated_at": "When its last batch was committed.",
    "finished_at": "When it ended; NULL: it has not.",
}
_POOL_PROBLEMS = {
    "pool": "Name of the worker pool in Cloud Run.",
    "since": "When the problem was first seen.",
    "reason": "Why no worker runs, in words.",
    "checks": "Looks at the pool so far.",
    "next_check_at": "When the pool is looked at again; NULL: it is not.",
    "failed_starts": "Starts of workers that failed.",
    "fingerprint": "What was set when the problem was seen: a change of it is a reason to try again.",
    "is_permanent": "True where another try needs a change by a person.",
    "held_at": "When the pool was set to 0 instances for the problem; NULL: it was not.",
}
_COMMENTS = {
    "captions": _CAPTIONS | _CAPTIONS_ALONE,
    "current_captions": _CAPTIONS,
    "caption_history": _HISTORY,
    "backfills": _BACKFILLS,
    "pool_problems": _POOL_PROBLEMS,
    "caption_search": {
        "id": "Row of captions.",
        "caption": "Copy of the caption; its indexes find words and parts of words.",
        "words": "Words of the caption by the language.",
        "language": "Text search configuration of words.",
    },
    "search_language": {
        "is_only": "Always true: the table has one row.",
        "language": "Text search configuration of searches; dropline search-language changes it.",
    },
    "caption_stats": {
        "day": "Day of the captions, UTC. A condition on it reads the rows of these days alone.",
        "bucket": "Bucket of the objects.",
        "task": "Task prompt with its text.",
        "model": "Checkpoint of the captions.",
        "captions": "Captions recorded on the day.",
        "bytes": "Bytes of their objects.",
        "p50_s": "Median of the seconds from event to caption.",
        "p95_s": "95th percentile of these seconds.",
    },
    "failures": {
        "id": "Number of the failed row of captions.",
        "bucket": "Bucket of the object.",
        "object_name": "Name of the object.",
        "generation": "Version of the object.",
        "task": "Task prompt with its text.",
        "error_code": "Reason; docs/error-codes.md has all.",
        "words": "The reason in words.",
        "remedy": "What to do, by error code.",
        "attempts": "Claims so far.",
        "failed_at": "When the row failed.",
    },
    "caption_boxes": {
        "caption_id": "Row of captions.",
        "bucket": "Bucket of the object.",
        "object_name": "Name of the object.",
        "generation": "Version of the object, the newest one.",
        "task": "Task prompt with its text.",
        "model": "Checkpoint of the answer.",
        "captioned_at": "When the answer was recorded.",
        "number": "Place of the box in the answer, from 1 on.",
        "label": "The model's word for the thing, or the text that was read; NULL without one.",
        "x1": "Left edge in pixels of the upright image.",
        "y1": "Upper edge in pixels.",
        "x2": "Right edge in pixels.",
        "y2": "Lower edge in pixels.",
        "width": "Width of the image in pixels.",
        "height": "Height of the image in pixels.",
    },
    "filtered_events": {
        "day": "Day of the events, UTC.",
        "bucket": "Bucket of the objects.",
        "reason": "Rule that filtered the objects.",
        "setting": "Setting with the rule.",
        "slot": "Part of the count: parts are added up.",
        "events": "Filtered events.",
        "last_at": "When the last one arrived.",
    },
    "workers": {
        "id": "Number of the start.",
        "name": "Name of the worker's connections to Redis.",
        "host": "Machine of the worker.",
        "model": "Checkpoint.",
        "model_revision": "Revision of the checkpoint.",
        "device": "Device of the engine, such as cuda:0.",
        "largest_batch": "Most images in one batch.",
        "started_at": "When the worker was ready.",
        "stopped_at": "When the worker stopped; NULL: it runs, or was killed.",
        "breaker_open_since": "The engine is given no images since then; NULL: it is.",
        "breaker_reason": "Why the engine is given no images.",
    },
}
_TABLES = {
    "captions": "One task of one version of an object: its state, and its caption or error.",
    "current_captions": "The newest live version of each object; conditions on words read an index.",
    "caption_history": "Captions that others replaced.",
    "backfills": "Backfills of buckets, with their cursors and counts.",
    "pool_problems": "Why a worker pool has no worker.",
    "caption_search": "A copy of each caption, for searches; triggers write it.",
    "search_language": "The language of searches.",
    "caption_stats": "Captions by day, bucket, task and model.",
    "failures": "Failed rows with remedies.",
    "caption_boxes": "Boxes of answers, a row each; lines of text (quadrilaterals) by the box around each.",
    "filtered_events": "Events of objects that a rule filtered.",
    "workers": "Starts of workers.",
}
_VIEWS = frozenset({"current_captions", "caption_stats", "failures", "caption_boxes"})


def upgrade() -> None:
    """Write the comments."""
    for table, columns in _COMMENTS.items():
        kind = "VIEW" if table in _VIEWS else "TABLE"
        op.execute(f"COMMENT ON {kind} {table} IS {_quoted(_TABLES[table])}")
        for column, words in columns.items():
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS {_quoted(words)}")
    op.execute(
        "COMMENT ON FUNCTION search_captions(text, integer, boolean, text) IS 'The newest captions with words, as"
        " a search engine takes them; ranked => true: the best of the newest 1,000.'"
    )


def downgrade() -> None:
    """Remove the comments."""
    for table, columns in _COMMENTS.items():
        op.execute(f"COMMENT ON {'VIEW' if table in _VIEWS else 'TABLE'} {table} IS NULL")
        for column in columns:
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS NULL")
    op.execute("COMMENT ON FUNCTION search_captions(text, integer, boolean, text) IS NULL")


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''").replace(":", "\\:") + "'"
