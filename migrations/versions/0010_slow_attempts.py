"""The count of soft time limits, apart from deaths.

Revision: 0010, after 0009. Function and worker of the release before run with both revisions: they do not use the
column, with a constant default, for which Postgres rewrites no row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and let redrives of the gallery reset the count."""
    zero = sa.text("0")
    op.add_column("captions", sa.Column("slow_attempts", sa.SmallInteger(), nullable=False, server_default=zero))
    op.execute("GRANT UPDATE (slow_attempts) ON captions TO dropline_gallery")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("captions", "slow_attempts")
