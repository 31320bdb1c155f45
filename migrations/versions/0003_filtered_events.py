"""A table counts the events of filtered objects: by day, bucket, rule and setting.

Revision: 0003, after 0002. Function and worker of the release before run with both revisions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_GRANTS = (
    "GRANT SELECT, INSERT, UPDATE ON filtered_events TO dropline_ingest",
    "GRANT SELECT ON filtered_events TO dropline_worker, dropline_reader",
    "ALTER TABLE filtered_events OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Create the table."""
    bigint, text = sa.BigInteger(), sa.Text()
    op.create_table(
        "filtered_events",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("bucket", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("setting", text, nullable=False),
        sa.Column("slot", bigint, nullable=False),
        sa.Column("events", bigint, nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("day", "bucket", "reason", "setting", "slot", name="pk_filtered_events"),
    )
    # Counts are updated in place (HOT): room in each page keeps the index unchanged.
    op.execute("ALTER TABLE filtered_events SET (fillfactor = 50)")
    for statement in _GRANTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the table with all counts."""
    op.drop_table("filtered_events")
