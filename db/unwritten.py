"""Unwritten rows: `captioned`, but the copy in the object's metadata was given up, and `error_code` says why.

Sent again, they have a lease that has run out, so a worker repeats the write-back and nothing else; until it has,
they keep their code.
"""

from sqlalchemy import ColumnElement, and_, exists, func
from sqlalchemy.orm import aliased

from db.models import CaptionRow
from db.redrivable import Redrivable
from dropline.contract import Status


def _has_a_later_caption() -> ColumnElement[bool]:
    """Of another task: the object holds one caption, and the later one is not to be lost for the earlier."""
    other = aliased(CaptionRow)
    return exists().where(
        other.bucket == CaptionRow.bucket,
        other.object_name == CaptionRow.object_name,
        other.generation == CaptionRow.generation,
        other.status == Status.CAPTIONED,
        other.captioned_at > CaptionRow.captioned_at,
    )


UNWRITTEN = Redrivable(
    status=Status.CAPTIONED,
    # Without a code nobody wanted the copy (`DROPLINE_METADATA__WRITE`); with a lease it is still to come.
    condition=and_(
        CaptionRow.error_code.is_not(None),
        CaptionRow.metadata_written_at.is_(None),
        CaptionRow.lease_until.is_(None),
        ~_has_a_later_caption(),
    ),
    # A generation does not come back.
    never=("object_gone",),
    waiting=Status.CAPTIONED,
    changes={"lease_until": func.now()},
)
