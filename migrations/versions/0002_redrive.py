"""A redriven row begins its retries anew: what it had used up before is remembered apart.

Revision: 0002, after 0001. Function and worker of the version before run on both. No rights change, for those of
0001 are the whole table's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column with a constant default: Postgres rewrites no row."""
    op.add_column(
        "captions",
        sa.Column("attempts_before_redrive", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )


def downgrade() -> None:
    """Without the column; a redriven row has then used up the retries of its earlier life."""
    op.drop_column("captions", "attempts_before_redrive")
