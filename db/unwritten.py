"""Unwritten rows: `captioned`, but the copy in the object's metadata was given up, and `error_code` says why.

Sent again, they have a lease that has run out, so a worker repeats the write-back and nothing else; until it has,
they keep their code.
"""

from sqlalchemy import and_, func

from db.models import CaptionRow
from db.redrivable import Redrivable
from dropline.contract import Status

UNWRITTEN = Redrivable(
    status=Status.CAPTIONED,
    # Without a code nobody wanted the copy (`DROPLINE_METADATA__WRITE`); with a lease it is still to come.
    condition=and_(
        CaptionRow.error_code.is_not(None),
        CaptionRow.metadata_written_at.is_(None),
        CaptionRow.lease_until.is_(None),
    ),
    # A generation does not come back.
    never=("object_gone",),
    waiting=Status.CAPTIONED,
    changes={"lease_until": func.now()},
)
