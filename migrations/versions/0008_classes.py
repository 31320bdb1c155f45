"""The count of soft time limits, and the state of the breaker of each worker.

Revision: 0008, after 0007. Function and worker of the release before run with both revisions: they use none of the
columns, and each has a constant default, for which Postgres rewrites no row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BREAKER = "breaker_opened_at, breaker_reason"


def upgrade() -> None:
    """Add the columns, and let worker and gallery set theirs."""
    zero = sa.text("0")
    op.add_column("captions", sa.Column("slow_attempts", sa.SmallInteger(), nullable=False, server_default=zero))
    op.add_column("workers", sa.Column("breaker_opened_at", sa.DateTime(timezone=True)))
    op.add_column("workers", sa.Column("breaker_reason", sa.Text()))
    op.execute("GRANT UPDATE (slow_attempts) ON captions TO dropline_gallery")
    op.execute(f"GRANT UPDATE ({_BREAKER}) ON workers TO dropline_worker")


def downgrade() -> None:
    """Drop the columns."""
    for name in ("breaker_opened_at", "breaker_reason"):
        op.drop_column("workers", name)
    op.drop_column("captions", "slow_attempts")
