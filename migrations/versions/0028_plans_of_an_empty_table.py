"""Rows are registered by indexes, also where the plans were made for an empty table.

Revision: 0028, after 0027. Function and worker of the release before run with both revisions: they call the same
functions, with the same results.

Postgres keeps the plans of a function for the whole connection. A plan made while `captions` is empty reads the
whole table, and stays until the next ANALYZE, up to a minute later. A backfill of a full bucket inserts thousands
of rows in the meantime, each slower than the row before: 15,000 rows of a connection, in batches of 500, took 49 s
in place of 4.

A later CREATE OR REPLACE of a function drops its settings: name them there again.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_FUNCTIONS = ("register_tasks", "register_captions")


def upgrade() -> None:
    """Plan the statements of the functions without sequential scans."""
    for name in _FUNCTIONS:
        op.execute(f"ALTER FUNCTION {name} SET enable_seqscan = off")


def downgrade() -> None:
    """Plan as before."""
    for name in _FUNCTIONS:
        op.execute(f"ALTER FUNCTION {name} RESET enable_seqscan")
