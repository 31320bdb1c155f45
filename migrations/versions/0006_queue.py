"""The queue is in Postgres: priority, not-before time, and the claim of each row.

Revision: 0006, after 0005. Function and worker of the release before run with both revisions: they use none of the
columns, and a row queued or leased by either is due by status and lease.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_GALLERY = "priority, not_before, failing_since, redo"

# A claim is no news for a listener: `running` is visible in the table.
_NEWS = """(OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'running')
           OR OLD.metadata_written_at IS DISTINCT FROM NEW.metadata_written_at
           OR (NEW.status = 'captioned' AND OLD.lease_until IS NOT NULL AND NEW.lease_until IS NULL)"""
_NEWS_BEFORE = _NEWS.replace(" AND NEW.status <> 'running'", "")

_TRIGGERS = (
    ("captions_notify_update", "AFTER", "notify_caption"),
    ("captions_number_update", "BEFORE", "number_caption_change"),
)


def upgrade() -> None:
    """Add columns with constant defaults, for which Postgres rewrites no row."""
    moment = sa.DateTime(timezone=True)
    no, zero = sa.text("false"), sa.text("0")
    op.add_column("captions", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default=zero))
    op.add_column("captions", sa.Column("not_before", moment))
    op.add_column("captions", sa.Column("failing_since", moment))
    op.add_column("captions", sa.Column("redo", sa.Boolean(), nullable=False, server_default=no))
    op.add_column("captions", sa.Column("claimed_by", sa.Text()))
    # Not validated: a scan of the table would hold the lock. The rows from before have the default.
    op.execute(
        "ALTER TABLE captions ADD CONSTRAINT ck_captions_priority CHECK (priority BETWEEN 0 AND 2) NOT VALID"
    )
    op.execute(f"GRANT INSERT (priority), UPDATE ({_GALLERY}) ON captions TO dropline_gallery")
    _replace_triggers(_NEWS)


def _replace_triggers(news: str) -> None:
    for name, moment, function in _TRIGGERS:
        op.execute(
            f"CREATE OR REPLACE TRIGGER {name} {moment} UPDATE ON captions FOR EACH ROW WHEN ({news}) "
            f"EXECUTE FUNCTION {function}()"
        )


def downgrade() -> None:
    """Drop the columns. Rows in a back-off are due at once."""
    _replace_triggers(_NEWS_BEFORE)
    for name in ("priority", "not_before", "failing_since", "redo", "claimed_by"):
        op.drop_column("captions", name)
