"""Captions can be searched in another language than English, and a frequent word is found without a long read.

Revision: 0020, after 0019. Function and worker of the release before run with both revisions: a trigger writes the
words of a caption, as before. No row is rewritten: a generated column that becomes a plain one keeps its values,
and the new column has a constant default.
"""

from alembic import op

from migrations.locks import execute_concurrently

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ROLES = "dropline_ingest, dropline_worker, dropline_reader, dropline_gallery"
_SETTING = (
    """CREATE TABLE search_language (
           is_only boolean NOT NULL DEFAULT true,
           language text NOT NULL,
           CONSTRAINT pk_search_language PRIMARY KEY (is_only),
           CONSTRAINT ck_search_language_is_only CHECK (is_only)
       )""",
    "INSERT INTO search_language (language) VALUES ('english')",
    f"GRANT SELECT ON search_language TO {_ROLES}",
    "ALTER TABLE search_language OWNER TO dropline_migrator",
)
_COLUMNS = (
    "ALTER TABLE caption_search ALTER COLUMN words DROP EXPRESSION",
    "ALTER TABLE caption_search ADD COLUMN language text NOT NULL DEFAULT 'english'",
)
_COPY = """
CREATE OR REPLACE FUNCTION copy_caption() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    chosen text;
BEGIN
    IF NEW.caption IS NULL THEN
        DELETE FROM public.caption_search WHERE id = NEW.id;
    ELSE
        chosen := coalesce((SELECT search_language.language FROM public.search_language), 'english');
        INSERT INTO public.caption_search (id, caption, words, language)
        VALUES (NEW.id, NEW.caption, to_tsvector(chosen::regconfig, NEW.caption), chosen)
        ON CONFLICT (id) DO UPDATE
        SET caption = excluded.caption, words = excluded.words, language = excluded.language;
    END IF;
    RETURN NULL;
END $$
"""
# Else each login could write any copy by a trigger of a temporary table. A downgrade keeps it.
_RIGHTS = "REVOKE ALL ON FUNCTION copy_caption() FROM PUBLIC"
_OLD_COPY = """
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
# Committed before the next steps: a downgrade, repeated after a long wait for a lock, finds the step done.
_OLD_COLUMNS = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = 'caption_search'::regclass AND attname = 'language' AND NOT attisdropped) THEN
        LOCK TABLE captions IN SHARE MODE;
        ALTER TABLE caption_search DROP COLUMN words, DROP COLUMN language;
        ALTER TABLE caption_search
            ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('english', caption)) STORED;
    END IF;
END $$
"""
# Postgres takes each comparison of two columns for true in one case of three. With one comparison it expects a
# newer generation for a third of all rows, and a search for the newest captions with a word walks `captions`
# instead of `caption_search`: past each queued row, and there may be a million. The second and the third say the
# same again.
_NEWER = """newer.generation > c.generation
                    AND newer.generation >= c.generation AND newer.generation - c.generation > 0"""
_VIEW = """
CREATE OR REPLACE VIEW current_captions WITH (security_invoker = true) AS
SELECT c.id, c.bucket, c.object_name, c.generation, c.task, c.status, search.caption, c.result, c.model,
       c.model_revision, c.content_type, c.size_bytes, c.md5_hash, c.crc32c, c.width, c.height, c.attempts,
       c.lost_attempts, c.lease_until, c.error_code, c.error, c.event_time, c.queued_at, c.started_at,
       c.captioned_at, c.metadata_written_at, c.updated_at
FROM captions AS c LEFT JOIN caption_search AS search ON search.id = c.id
WHERE c.status NOT IN ('deleted', 'superseded')
  AND NOT EXISTS (SELECT FROM captions AS newer
                  WHERE newer.bucket = c.bucket AND newer.object_name = c.object_name
                    AND {newer})
"""


def upgrade() -> None:
    """Make the language a setting, and let Postgres expect few overwritten rows."""
    # The view first: a reader of the view locks it before the table.
    for statement in (_VIEW.format(newer=_NEWER), *_SETTING, *_COLUMNS, _COPY, _RIGHTS):
        op.execute(statement)


def downgrade() -> None:
    """Search in English again. Postgres writes each row of `caption_search` anew; captions wait meanwhile."""
    # In a transaction of its own; the lock then waits for the end of each statement with the new trigger.
    with op.get_context().autocommit_block():
        op.execute(_VIEW.format(newer="newer.generation > c.generation"))
        op.execute(_OLD_COPY)
    op.execute(_OLD_COLUMNS)
    with op.get_context().autocommit_block():
        op.execute("DROP TABLE IF EXISTS search_language")
        for name in ("ix_caption_search_words", "ix_caption_search_words_next"):
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        execute_concurrently(
            "CREATE INDEX CONCURRENTLY ix_caption_search_words ON caption_search "
            "USING gin (to_tsvector('english', caption))"
        )
        op.execute("ALTER INDEX ix_caption_search_words ALTER COLUMN 1 SET STATISTICS 1000")
