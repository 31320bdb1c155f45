"""A redriven row has all retries again: a column counts the attempts from before the redrive.

Revision: 0002, after 0001. Function and worker of the release before run with both revisions. The rights of 0001
are on the whole table, so no grant is needed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column with a constant default, for which Postgres rewrites no row."""
    op.add_column(
        "captions",
        sa.Column("attempts_before_redrive", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )


def downgrade() -> None:
    """Drop the column. The attempts from before a redrive then count as retries again."""
    op.drop_column("captions", "attempts_before_redrive")
