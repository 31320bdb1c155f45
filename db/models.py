"""The schema as SQLAlchemy models. Migrations create the schema; `alembic check` compares it with the models."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dropline.contract import Status

#: `task` of a tombstone, which stands for all tasks of a deleted generation.
EVERY_TASK = "*"


class Base(DeclarativeBase):
    """Column types and constraint names of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy as a plain class attribute
        int: BigInteger,
        bool: Boolean,
        str: Text,
        date: Date,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        Status: Enum(
            Status,
            native_enum=False,
            length=16,
            create_constraint=True,
            name="status",
            values_callable=lambda kind: [member.value for member in kind],
        ),
    }


class CaptionRow(Base):
    """One task of one object version, and its caption or error."""

    __tablename__ = "captions"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    bucket: Mapped[str]
    object_name: Mapped[str]
    generation: Mapped[int]
    task: Mapped[str]
    status: Mapped[Status]
    caption: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    model: Mapped[str | None]
    model_revision: Mapped[str | None]
    content_type: Mapped[str | None]
    size_bytes: Mapped[int | None]
    md5_hash: Mapped[str | None]
    crc32c: Mapped[str | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    #: Number of claims so far: the fencing token.
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    #: Number of claims whose process died, or was killed at the time limit, without recording a result.
    lost_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    #: Number of claims before the last redrive; these are not counted as retries.
    attempts_before_redrive: Mapped[int] = mapped_column(server_default=text("0"))
    #: Number of claims since the last redrive that ended at the soft time limit.
    slow_attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: Set while a worker captions the row or writes the caption back to the object's metadata.
    lease_until: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    event_time: Mapped[datetime | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    captioned_at: Mapped[datetime | None]
    metadata_written_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: False for a further task of the object version: its caption is in Postgres alone.
    write_back: Mapped[bool] = mapped_column(server_default=text("true"))
    #: Number of the transaction with the last notified change; a trigger sets it. None: before revision 0005.
    changed_in: Mapped[int | None] = mapped_column(server_default=text("pg_current_xact_id()::text::bigint"))
    #: 0: fresh, 1: redone, 2: bulk. Due rows of a smaller number are claimed first. `register_captions` sets the
    #: setting for its own statements; see `docs/decisions/0022-bulk-rows-by-the-function-of-events.md`.
    priority: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("COALESCE(NULLIF(current_setting('dropline.priority', true), ''), '0')::smallint"),
    )
    #: A queued row is claimed at this time or later; None: at once.
    not_before: Mapped[datetime | None]
    #: Time of the first transient error since the row was queued; None: none.
    failing_since: Mapped[datetime | None]
    #: True for a captioned row to be captioned again; the row keeps status and caption until then. Set
    #: together with a `lease_until` of NULL: a lease of such a row is that of the new attempt.
    redo: Mapped[bool] = mapped_column(server_default=text("false"))
    #: When the latest redo was given up, with the reason in `error_code` and `error`; None: it was not given up.
    redo_failed_at: Mapped[datetime | None]
    #: Worker and child of the latest claim.
    claimed_by: Mapped[str | None]
    #: The row whose caption was taken for identical bytes, which may be purged since; None: the model's own.
    copied_from: Mapped[int | None]
    #: Version number of the object's metadata at its event; None: unknown, or a key was one that Dropline writes.
    metageneration: Mapped[int | None]
    #: Bytes of these metadata, keys and values.
    metadata_bytes: Mapped[int | None] = mapped_column(SmallInteger)
    #: Who wrote the caption; `object metadata`: the object arrived with it. None: the model. No worker replaces a
    #: person's caption, unless a person reverts it (`redo`).
    edited_by: Mapped[str | None]
    #: When the person wrote it. None: the model's.
    edited_at: Mapped[datetime | None]
    #: Who put the model's caption back, since the last edit.
    reverted_by: Mapped[str | None]
    reverted_at: Mapped[datetime | None]

    __table_args__ = (
        # With the operators of bytes, in the order of a listing; a constraint could not have them.
        Index(
            "uq_captions_bucket_object_name_generation_task",
            "bucket",
            "object_name",
            "generation",
            "task",
            unique=True,
            postgresql_ops={"object_name": "text_pattern_ops"},
        ),
        Index(
            "ix_captions_due",
            "priority",
            text("COALESCE(lease_until, not_before, queued_at)"),
            postgresql_where=text(
                "status = 'queued' OR lease_until IS NOT NULL OR (redo AND status = 'captioned')"
            ),
        ),
        Index("ix_captions_claimed_by", "claimed_by", postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_captions_changed_in", "changed_in", postgresql_where=text("changed_in IS NOT NULL")),
        Index("ix_captions_failed", "error_code", postgresql_where=text("status = 'failed'")),
        Index("ix_captions_captioned_at", "captioned_at", postgresql_where=text("captioned_at IS NOT NULL")),
        Index("ix_captions_prompt", text("split_part(task, '>', 1)"), "id"),
        Index("ix_captions_model", "model", "id", postgresql_where=text("model IS NOT NULL")),
        Index(
            "ix_captions_ended",
            "status",
            "id",
            postgresql_where=text("status IN ('failed', 'superseded', 'deleted')"),
        ),
        Index(
            "ix_captions_ended_at",
            "updated_at",
            postgresql_where=text("status IN ('superseded', 'deleted')"),
        ),
        # For prefixes, whatever the collation of the database.
        Index(
            "ix_captions_object_versions",
            "object_name",
            "generation",
            postgresql_ops={"object_name": "text_pattern_ops"},
        ),
        Index(
            "ix_captions_unfinished",
            "bucket",
            "object_name",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        # Four bytes in place of four texts; the texts are compared too. The condition is that of `db.copies`.
        Index(
            "ix_captions_originals",
            text("hashtext(((md5_hash || task) || model) || model_revision)"),
            postgresql_where=text("copied_from IS NULL AND captioned_at IS NOT NULL AND md5_hash IS NOT NULL"),
        ),
        Index(
            "ix_captions_twins",
            "md5_hash",
            "status",
            postgresql_where=text("md5_hash IS NOT NULL AND status IN ('queued', 'running')"),
        ),
        Index("ix_captions_queued_at", "queued_at", postgresql_where=text("status = 'queued'")),
        Index("ix_captions_redo", "id", postgresql_where=text("redo AND status = 'captioned'")),
        # Of people; the captions that arrived with their objects may be many.
        Index("ix_captions_edited_at", "edited_at", postgresql_where=text("edited_by <> 'object metadata'")),
        Index(
            "ix_captions_unwritten",
            "id",
            postgresql_where=text(
                "status = 'captioned' AND error_code IS NOT NULL AND metadata_written_at IS NULL"
            ),
        ),
    )


class CaptionSearchRow(Base):
    """A copy of each caption, for searches. Triggers on `captions` write it when a caption changes.

    A change of a row's state writes an entry to each index of the row's table. So the indexes of words are here.
    """

    __tablename__ = "caption_search"

    id: Mapped[int] = mapped_column(
        ForeignKey("captions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    caption: Mapped[str]
    #: For conditions on many rows without an index: the words of the caption are not split once more. None: a
    #: trigger of the release before wrote the row while the schema changed.
    words: Mapped[str | None] = mapped_column(TSVECTOR)
    #: The text search configuration of `words`. While the language is changed, some rows have the one before.
    language: Mapped[str] = mapped_column(server_default=text("'english'"))

    __table_args__ = (
        # The expression is that of searches in SQL. `db.search_language` builds the index of another language.
        Index("ix_caption_search_words", text("to_tsvector('english', caption)"), postgresql_using="gin"),
        Index(
            "ix_caption_search_trigrams",
            "caption",
            postgresql_using="gin",
            postgresql_ops={"caption": "gin_trgm_ops"},
        ),
    )


class CaptionHistoryRow(Base):
    """A replaced caption. A trigger on `captions` deletes the rows of an erased caption."""

    __tablename__ = "caption_history"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    caption_id: Mapped[int] = mapped_column(ForeignKey("captions.id", ondelete="CASCADE"))
    caption: Mapped[str]
    result: Mapped[dict[str, Any] | None]
    #: Of the replaced caption, as in `captions`.
    model: Mapped[str | None]
    model_revision: Mapped[str | None]
    captioned_at: Mapped[datetime | None]
    #: None for a caption of the model.
    edited_by: Mapped[str | None]
    edited_at: Mapped[datetime | None]
    replaced_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (Index(None, "caption_id", "id"),)


class SearchLanguageRow(Base):
    """The language in which captions are searched: one row; see `db.search_language`."""

    __tablename__ = "search_language"

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    #: Name of a text search configuration of Postgres, such as `english`.
    language: Mapped[str]

    __table_args__ = (CheckConstraint("is_only", name="is_only"),)


class FilteredEventsRow(Base):
    """A part of the number of events that one rule filtered on one day (UTC) in one bucket."""

    __tablename__ = "filtered_events"

    day: Mapped[date] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True)
    #: A `FilterReason`.
    reason: Mapped[str] = mapped_column(primary_key=True)
    #: The variable of the setting that decides, or `fixed rule`.
    setting: Mapped[str] = mapped_column(primary_key=True)
    #: One of several rows that share the count, so that simultaneous events seldom wait for the same row.
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    events: Mapped[int]
    last_at: Mapped[datetime]


class WorkerRow(Base):
    """One start of a worker. The newest row stays when older ones are removed."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    #: Name of the worker's connections to Redis: the worker is alive while Redis lists a connection of this name.
    name: Mapped[str] = mapped_column(unique=True)
    host: Mapped[str]
    #: As in `captions`.
    model: Mapped[str]
    model_revision: Mapped[str]
    #: Device of the engine, for example `cuda:0`.
    device: Mapped[str]
    #: Most images in one batch of the engine.
    largest_batch: Mapped[int]
    #: When the worker was ready.
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: None for a worker that runs, or whose process died.
    stopped_at: Mapped[datetime | None]
    #: None while the breaker is closed; see `worker.breaker`.
    breaker_open_since: Mapped[datetime | None]
    #: One sentence for people; None while the breaker is closed.
    breaker_reason: Mapped[str | None]


class BackfillRow(Base):
    """One backfill: its cursor and its counts, committed together with each batch of rows."""

    __tablename__ = "backfills"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    #: `gs://bucket/prefix or glob`, as given.
    source: Mapped[str]
    #: All else that decides which objects get which rows. The same source and options continue a backfill.
    options: Mapped[dict[str, Any]] = mapped_column(JSONB)
    #: Objects created before are left out; None: none.
    since: Mapped[datetime | None]
    #: How far each part of the bucket, or the list, has been read; see `operations.backfill_cursor`.
    cursor: Mapped[dict[str, Any]] = mapped_column(JSONB)
    #: Objects read so far. The other numbers are of rows: an object has one for each of its tasks.
    listed: Mapped[int] = mapped_column(server_default=text("0"))
    #: Rows that were in the table before.
    existing: Mapped[int] = mapped_column(server_default=text("0"))
    #: Inserted rows for a worker.
    queued: Mapped[int] = mapped_column(server_default=text("0"))
    #: Inserted rows with the caption of a person, from the object's metadata.
    adopted: Mapped[int] = mapped_column(server_default=text("0"))
    #: Inserted rows of objects refused before a download.
    failed: Mapped[int] = mapped_column(server_default=text("0"))
    #: Rows of a generation deleted, archived or overwritten by then.
    ended: Mapped[int] = mapped_column(server_default=text("0"))
    #: Bytes of the objects of `queued`.
    queued_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    #: Numbers of objects left out, by reason.
    left_out: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    #: Smallest and largest id of the inserted rows.
    first_id: Mapped[int | None]
    last_id: Mapped[int | None]
    #: The process that continues the backfill; a later one takes over.
    runner: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: None: not finished.
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_backfills_unfinished",
            "source",
            "options",
            unique=True,
            postgresql_where=text("finished_at IS NULL"),
        ),
    )


class PoolProblemRow(Base):
    """Why a worker pool has no worker. The row is deleted when a worker is ready; see `db.pool_problems`."""

    __tablename__ = "pool_problems"

    #: `projects/P/locations/L/workerPools/W`.
    pool: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: The latest reason, one sentence for people.
    reason: Mapped[str]
    #: Number of the next check.
    checks: Mapped[int] = mapped_column(server_default=text("0"))
    #: None: no check is arranged.
    next_check_at: Mapped[datetime | None]
    #: Starts of workers that failed in a row, with the same image and settings.
    failed_starts: Mapped[int] = mapped_column(server_default=text("0"))
    #: Of the image and settings with which they failed.
    fingerprint: Mapped[str] = mapped_column(server_default=text("''"))
    #: Only another image or other settings can help.
    is_permanent: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Since when the worker pool is held at 0 instances; None: it is not.
    held_at: Mapped[datetime | None]
