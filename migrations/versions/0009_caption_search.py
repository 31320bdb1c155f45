"""Captions are searched in a separate table, which no change of a row's state touches.

Revision: 0009, after 0007. Function and worker of the release before run with both revisions: triggers fill the
new table. Each step is its own transaction, and has no effect where it was done before, so an upgrade that was cut
short is repeated from the start. The rows of before are copied in batches, under locks of single rows.

Also four indexes: for the unfinished rows of an object, for the generations of an object, for the queued rows, and
for captions with a write-back failed for good.
"""

import sqlalchemy as sa
from alembic import op

from migrations.locks import execute_concurrently

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

#: Ids of one batch: some tenths of a second.
_BATCH = 5_000

_TABLE = """
CREATE TABLE IF NOT EXISTS caption_search (
    id bigint NOT NULL,
    caption text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', caption)) STORED,
    CONSTRAINT pk_caption_search PRIMARY KEY (id),
    CONSTRAINT fk_caption_search_id_captions FOREIGN KEY (id) REFERENCES captions ON DELETE CASCADE
)
"""
# With the rights of the owner: no role writes the table by itself.
_FUNCTION = """
CREATE OR REPLACE FUNCTION copy_caption() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.caption IS NULL THEN
        DELETE FROM public.caption_search WHERE id = NEW.id;
    ELSE
        INSERT INTO public.caption_search (id, caption) VALUES (NEW.id, NEW.caption)
        ON CONFLICT (id) DO UPDATE SET caption = excluded.caption;
    END IF;
    RETURN NULL;
END $$
"""
_TRIGGERS = (
    """CREATE OR REPLACE TRIGGER captions_copy_insert AFTER INSERT ON captions
       FOR EACH ROW WHEN (NEW.caption IS NOT NULL) EXECUTE FUNCTION copy_caption()""",
    """CREATE OR REPLACE TRIGGER captions_copy_update AFTER UPDATE ON captions
       FOR EACH ROW WHEN (OLD.caption IS DISTINCT FROM NEW.caption) EXECUTE FUNCTION copy_caption()""",
)
_OWNERS = (
    # Parallel workers start later than most searches end, and read far beyond the first hits.
    "ALTER TABLE caption_search SET (parallel_workers = 0)",
    "GRANT SELECT ON caption_search TO dropline_ingest, dropline_worker, dropline_reader, dropline_gallery",
    "ALTER TABLE caption_search OWNER TO dropline_migrator",
    "ALTER FUNCTION copy_caption() OWNER TO dropline_migrator",
)
# FOR SHARE: no row changes, or is deleted, between the read and the commit of the copy. A row that was copied by a
# trigger is the newer one.
_COPY = sa.text("""
    INSERT INTO caption_search (id, caption)
    SELECT id, caption FROM captions WHERE id > :after AND id <= :last AND caption IS NOT NULL
    ORDER BY id FOR SHARE
    ON CONFLICT (id) DO NOTHING
""")

_SEARCH = "gin (to_tsvector('english', caption))"
_TRIGRAMS = "gin (caption gin_trgm_ops)"
_SEARCH_INDEXES = {
    "ix_caption_search_words": f"caption_search USING {_SEARCH}",
    "ix_caption_search_trigrams": f"caption_search USING {_TRIGRAMS}",
}
_ROW_INDEXES = {
    "ix_captions_unfinished": "captions (bucket, object_name) WHERE status IN ('queued', 'running')",
    "ix_captions_object_versions": "captions (object_name text_pattern_ops, generation)",
    "ix_captions_queued_at": "captions (queued_at) WHERE status = 'queued'",
    "ix_captions_unwritten": "captions (id) WHERE status = 'captioned' AND error_code IS NOT NULL "
    "AND metadata_written_at IS NULL",
}
_OUTDATED = {
    "ix_captions_caption_search": f"captions USING {_SEARCH}",
    "ix_captions_caption_trigrams": f"captions USING {_TRIGRAMS}",
    "ix_captions_object_name": "captions (object_name text_pattern_ops)",
}

# The columns are those of revision 0001, as before. The caption is that of the table with the indexes: a condition
# on it reads the index, and the rows of `captions` by their ids.
_VIEW = """
CREATE OR REPLACE VIEW current_captions WITH (security_invoker = true) AS
SELECT c.id, c.bucket, c.object_name, c.generation, c.task, c.status, {caption}, c.result, c.model,
       c.model_revision, c.content_type, c.size_bytes, c.md5_hash, c.crc32c, c.width, c.height, c.attempts,
       c.lost_attempts, c.lease_until, c.error_code, c.error, c.event_time, c.queued_at, c.started_at,
       c.captioned_at, c.metadata_written_at, c.updated_at
FROM {source}
WHERE c.status NOT IN ('deleted', 'superseded')
  AND NOT EXISTS (SELECT FROM captions AS newer
                  WHERE newer.bucket = c.bucket AND newer.object_name = c.object_name
                    AND newer.generation > c.generation)
"""


def upgrade() -> None:
    """Create the table, copy the captions, index the copies; then let the view read the table."""
    with op.get_context().autocommit_block():
        for statement in (_TABLE, _FUNCTION, *_OWNERS, *_TRIGGERS):
            op.execute(statement)
        _copy_captions()
        _create(_SEARCH_INDEXES | _ROW_INDEXES)
        # The planner chooses by the frequency of a word. With the usual statistics, a word of one caption in 2,000
        # and a word of one in a million look alike.
        op.execute("ALTER INDEX ix_caption_search_words ALTER COLUMN 1 SET STATISTICS 1000")
        op.execute("ANALYZE caption_search")
    op.execute(
        _VIEW.format(
            caption="search.caption", source="captions AS c LEFT JOIN caption_search AS search ON search.id = c.id"
        )
    )
    with op.get_context().autocommit_block():
        _drop(_OUTDATED)


def _copy_captions() -> None:
    connection = op.get_bind()
    last = connection.execute(sa.text("SELECT max(id) FROM captions")).scalar() or 0
    for after in range(0, last, _BATCH):
        connection.execute(_COPY, {"after": after, "last": after + _BATCH})


def _create(indexes: dict[str, str]) -> None:
    # An unfinished index is dropped before.
    _drop(indexes)
    for name, definition in indexes.items():
        execute_concurrently(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")


def _drop(indexes: dict[str, str]) -> None:
    for name in indexes:
        execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def downgrade() -> None:
    """Index the captions in a separate table, let the view read the table, and drop the copies."""
    with op.get_context().autocommit_block():
        _create(_OUTDATED)
    op.execute(_VIEW.format(caption="c.caption", source="captions AS c"))
    for trigger in ("captions_copy_insert", "captions_copy_update"):
        op.execute(f"DROP TRIGGER IF EXISTS {trigger} ON captions")
    op.execute("DROP TABLE IF EXISTS caption_search")
    op.execute("DROP FUNCTION IF EXISTS copy_caption()")
    with op.get_context().autocommit_block():
        _drop(_ROW_INDEXES)
