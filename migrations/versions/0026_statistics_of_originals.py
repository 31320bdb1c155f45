"""Statistics of the key of `ix_captions_originals`.

Revision: 0026, after 0025. Function and worker of the release before run with both revisions.

Postgres does not use the statistics of a partial index on an expression: it expected one captioned row in 200 for
the same bytes. So a plan for all claims looked costly, and each claim was planned anew, for some milliseconds.
"""

from alembic import op

from migrations.locks import execute_concurrently

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the statistics, and gather them: writes of rows go on meanwhile."""
    with op.get_context().autocommit_block():
        op.execute("DROP STATISTICS IF EXISTS st_captions_originals")
        # They wait behind a long VACUUM, and nothing waits behind them.
        execute_concurrently(
            "CREATE STATISTICS st_captions_originals"
            " ON (hashtext(((md5_hash || task) || model) || model_revision)) FROM captions"
        )
        execute_concurrently("ANALYZE captions")


def downgrade() -> None:
    """Drop the statistics."""
    op.execute("DROP STATISTICS IF EXISTS st_captions_originals")
