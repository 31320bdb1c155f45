"""Why a worker pool has no worker: failed starts, refused GPUs, and a hold at 0 instances.

Revision: 0019, after 0017. A new table alone: function and worker of the release before run with both revisions,
and do not use it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None

_RIGHTS = (
    "GRANT SELECT, INSERT, UPDATE, DELETE ON pool_problems TO dropline_ingest, dropline_worker",
    "GRANT SELECT ON pool_problems TO dropline_reader, dropline_gallery",
    "ALTER TABLE pool_problems OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Create the table."""
    text, number, moment = sa.Text(), sa.BigInteger(), sa.DateTime(timezone=True)
    op.create_table(
        "pool_problems",
        sa.Column("pool", text, nullable=False),
        sa.Column("since", moment, nullable=False, server_default=sa.text("now()")),
        sa.Column("reason", text, nullable=False),
        sa.Column("checks", number, nullable=False, server_default=sa.text("0")),
        sa.Column("next_check_at", moment),
        sa.Column("failed_starts", number, nullable=False, server_default=sa.text("0")),
        sa.Column("fingerprint", text, nullable=False, server_default=sa.text("''")),
        sa.Column("is_permanent", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("held_at", moment),
        sa.PrimaryKeyConstraint("pool", name="pk_pool_problems"),
    )
    for statement in _RIGHTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the table; a held worker pool stays at 0 instances until the next event."""
    op.drop_table("pool_problems")
