"""Dead letters: rows that are `failed`. Sent again, they are `queued`, with all their attempts before them."""

from sqlalchemy import func, true

from db.models import CaptionRow
from db.redrivable import Redrivable
from dropline.contract import Status

DEAD_LETTERS = Redrivable(
    status=Status.FAILED,
    condition=true(),
    # The object asks for a task that cannot be met, so its row holds another one: sent again, the row would get a
    # caption that nobody asked for.
    never=("invalid_task",),
    waiting=Status.QUEUED,
    changes={
        "error_code": None,
        "error": None,
        "lost_attempts": 0,
        "attempts_before_redrive": CaptionRow.attempts,
        "queued_at": func.now(),
    },
)
