"""The open breaker of a worker, in its row.

Revision: 0013, after 0012. Workers of the release before run with both revisions: they name the columns that they
write.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, with rights for the worker."""
    op.add_column("workers", sa.Column("breaker_open_since", sa.DateTime(timezone=True)))
    op.add_column("workers", sa.Column("breaker_reason", sa.Text()))
    op.execute("GRANT UPDATE (breaker_open_since, breaker_reason) ON workers TO dropline_worker")


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("workers", "breaker_reason")
    op.drop_column("workers", "breaker_open_since")
