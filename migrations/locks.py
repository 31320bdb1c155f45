"""How long a migration waits for locks."""

from alembic import op

#: Longest wait for a lock. A statement of function or worker behind the wait waits as long.
LOCK_TIMEOUT = "2s"


def execute_concurrently(statement: str) -> None:
    """Run a statement with CONCURRENTLY, in an autocommit block.

    The statement waits for the end of older transactions, without a limit: it blocks neither function nor worker
    meanwhile, and would begin from the start after an error.
    """
    op.execute("SET lock_timeout = 0")
    op.execute(statement)
    op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
