"""Identical bytes: the row with a caption for another row, and the row to wait for.

Two rows have identical bytes if MD5, size and, where both are known, CRC32C are equal. All three are of the
stored bytes, before a content encoding is undone. The design is in
`docs/decisions/0025-identical-bytes-are-captioned-once.md`.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text

from db.session import Connection
from dropline.contract import Caption, Claim, Dimensions, Original

#: Of a waiting row: as long as the other row has been at work, so the pauses grow.
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30


@dataclass(frozen=True, slots=True)
class Model:
    """The model of an engine."""

    name: str
    revision: str


def _key(md5: str, task: str, model: str, revision: str) -> str:
    """The expression of the index `ix_captions_originals`: four bytes in place of four texts."""
    return f"hashtext((({md5} || {task}) || {model}) || {revision})"


_MODEL, _REVISION = "CAST(:model AS text)", "CAST(:model_revision AS text)"
_COLUMNS = ("id", "caption", "result", "width", "height", "size_bytes")
ORIGINAL_KEY = _key("md5_hash", "task", "model", "model_revision")
IS_ORIGINAL = "copied_from IS NULL AND captioned_at IS NOT NULL AND md5_hash IS NOT NULL"


def original_of(own: str, md5: str, size: str) -> str:
    """A subquery: the caption of the running model for the bytes of the row `own`, made by the model itself.

    A row captioned again takes no caption older than the wish for a new caption.
    """
    columns = ", ".join(f"{name} AS original_{name}" for name in _COLUMNS)
    return f"""
        SELECT {columns} FROM captions AS original
        WHERE {ORIGINAL_KEY} = {_key(md5, f"{own}.task", _MODEL, _REVISION)} AND {IS_ORIGINAL}
              AND md5_hash = {md5} AND size_bytes = {size} AND task = {own}.task AND model = {_MODEL}
              AND model_revision = {_REVISION} AND caption IS NOT NULL AND edited_at IS NULL
              AND id <> {own}.id
              AND COALESCE(crc32c = {own}.crc32c, true)
              AND ({own}.status = 'queued' OR {own}.status = 'running'
                   OR ({own}.redo AND captioned_at > {own}.queued_at))
        LIMIT 1"""


def twin_of(own: str, md5: str, status: str, selected: str = "") -> str:
    """A subquery: other rows with the bytes and the task of the row `own`."""
    held = "AND twin.lease_until > now()" if status == "running" else ""
    return f"""
        SELECT {selected} FROM captions AS twin
        WHERE twin.md5_hash = {md5} AND twin.status = '{status}' AND twin.task = {own}.task
              AND twin.id <> {own}.id AND {_MODEL} IS NOT NULL {held}"""


TWIN_SINCE = "min(started_at) AS twin_since"
#: When a row looks again, by the start of the twin's work.
WAIT = (
    f"now() + LEAST(make_interval(secs => {_LONGEST_WAIT_S}), "
    f"GREATEST(make_interval(secs => {_SHORTEST_WAIT_S}), now() - twin_since))"
)


def find_original(row: Row[Any], model: Model | None) -> Original | None:
    """The columns of `original_of` in a row of a result."""
    if row.original_id is None or model is None:
        return None
    return Original(
        row.original_id,
        Caption(row.original_caption, row.original_result, model.name, model.revision),
        Dimensions(row.original_width, row.original_height),
        row.original_size_bytes,
    )


def of_model(model: Model | None) -> dict[str, str | None]:
    """The parameters of the subqueries; None finds no row."""
    if model is None:
        return {"model": None, "model_revision": None}
    return {"model": model.name, "model_revision": model.revision}


@dataclass(frozen=True, slots=True)
class Waits:
    """The claim was given up: another row with the same bytes is at work."""

    #: False if the row has moved on.
    held: bool
    #: Seconds until the row is due again.
    next_in_s: float


# Of rows claimed at the same moment, each sees the others queued. Under the lock the rows look again, one
# after another: the last row finds no other at work, and goes on.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:md5_hash AS text), 1))")
_SETTLE = text(f"""
    WITH seen AS (
        SELECT own.id AS own_id, found.*, twin_since, original_id IS NULL AND twin_since IS NOT NULL AS waits
        FROM captions AS own
        LEFT JOIN LATERAL ({original_of("own", ":md5_hash", ":size_bytes")}) AS found ON true
        LEFT JOIN LATERAL ({twin_of("own", ":md5_hash", "running", TWIN_SINCE)}) AS twin ON true
        WHERE own.id = :row_id AND own.attempts = :attempt AND own.status = 'running'),
    settled AS (
        UPDATE captions SET md5_hash = COALESCE(md5_hash, :md5_hash),
               size_bytes = COALESCE(captions.size_bytes, :size_bytes), updated_at = now(),
               status = CASE WHEN waits THEN 'queued' ELSE status END,
               lease_until = CASE WHEN waits THEN NULL ELSE lease_until END,
               not_before = CASE WHEN waits THEN {WAIT} ELSE not_before END
        FROM seen WHERE captions.id = seen.own_id AND attempts = :attempt AND status = 'running'
        RETURNING EXTRACT(EPOCH FROM not_before - now())::float8 AS next_in_s)
    SELECT seen.*, next_in_s FROM seen LEFT JOIN settled ON true
""")


def settle(
    connection: Connection, claim: Claim, model: Model, md5_hash: str, size_bytes: int
) -> Original | Waits | None:
    """Decide whether the claimed row needs the model: None.

    Otherwise identical bytes have a caption, or another row is at work on the bytes, and the row waits.
    Bytes without an MD5 or a size from the event get both now, before the model.

    Args:
        connection: in a separate transaction.
        claim: of a row without a caption.
        model: of the worker.
        md5_hash: of the stored bytes, in base64.
        size_bytes: of the stored bytes.
    """
    connection.execute(_LOCK, {"md5_hash": md5_hash})
    values = {"row_id": claim.row_id, "attempt": claim.attempt, "md5_hash": md5_hash, "size_bytes": size_bytes}
    row = connection.execute(_SETTLE, values | of_model(model)).one_or_none()
    if row is None:
        # The row has moved on, or is captioned again: its record decides.
        return None
    if row.waits:
        return Waits(row.next_in_s is not None, row.next_in_s or 0.0)
    return find_original(row, model)
