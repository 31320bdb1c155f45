"""Views for writers of SQL: statistics, failures with remedies, boxes as rows; and a function that searches.

Revision: 0021, after 0020. Function and worker of the release before run with both revisions: they use none of
these.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_ROLES = "dropline_ingest, dropline_worker, dropline_reader, dropline_gallery, dropline_editor"
_REMEDIES = {
    "empty_object": "upload the image again",
    "not_an_image": "none, or upload the image instead of this file",
    "unsupported_format": "convert the image to JPEG, PNG or WebP, and upload it again",
    "heic_unsupported": "install dropline[heic] in the workers, then redrive",
    "truncated_image": "upload a good copy of the image",
    "corrupt_image": "upload a good copy of the image",
    "invalid_image": "upload a good copy of the image",
    "image_too_large": "shrink the image, or raise DROPLINE_IMAGES__MAX_PIXELS or MAX_SIDE and redrive",
    "image_too_complex": "save the image again in a simpler form, and upload it",
    "decode_timeout": "raise DROPLINE_IMAGES__DECODE_TIMEOUT_S, or let fewer children share the machine; redrive",
    "decoder_crashed": "redrive when the workers have a newer decoder",
    "object_too_large": "shrink the file, or raise DROPLINE_EVENTS__MAX_SIZE_BYTES and redrive",
    "image_refused": "raise the limit that the words name, then redrive",
    "out_of_memory": "shrink the image, or raise DROPLINE_IMAGES__CHILD_MEMORY_BYTES and redrive",
    "invalid_task": "correct the object's caption-task, and upload it again",
    "inference_failed": "redrive when the workers have another model",
    "repetitive_answer": "ask for another task, or redrive when the workers have another model",
    "non_finite_logits": "set DROPLINE_ENGINE__DTYPE=float32 in the workers, then redrive",
    "worker_lost": "give the workers more memory, then redrive",
    "decoder_lost": "give the workers more memory, or lower DROPLINE_IMAGES__CHILD_MEMORY_BYTES; redrive",
    "engine_lost": "look at the GPU and its memory, then redrive",
    "inference_timeout": "raise DROPLINE_WORKER__SOFT_TIME_LIMIT_S, or free the GPU, then redrive",
    "internal_error": "report the words; redrive with a version that has the fix",
    "storage_unavailable": "redrive when Cloud Storage answers again",
    "storage_refused": "remove the reason in the words, then redrive",
    "database_unavailable": "redrive when Postgres answers again",
    "broker_unavailable": "redrive when Redis answers again",
    "statement_refused": "remove the reason in the words, then redrive",
    "engine_unavailable": "redrive when the workers are ready",
    "decoder_unavailable": "remove the reason in the words, then redrive",
    "precondition_lost": "redrive when the other writer of the object's metadata has ended",
    "access_denied": "grant the right that the words name, then redrive",
    "bucket_missing": "create the bucket, or correct its name, then redrive",
}

# A day is read by the index of `captioned_at`: a condition on `day` chooses days before any row is read.
_STATS = """
CREATE VIEW caption_stats WITH (security_invoker = true) AS
SELECT days.day::date AS day, found.*
FROM generate_series((SELECT date_trunc('day', min(captioned_at) AT TIME ZONE 'UTC') FROM captions
                      WHERE captioned_at IS NOT NULL),
                     (SELECT date_trunc('day', max(captioned_at) AT TIME ZONE 'UTC') FROM captions
                      WHERE captioned_at IS NOT NULL), interval '1 day') AS days (day)
CROSS JOIN LATERAL (
    SELECT bucket, task, model, count(*) AS captions, sum(size_bytes)::bigint AS bytes,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM captioned_at - event_time)) AS p50_s,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM captioned_at - event_time)) AS p95_s
    FROM captions
    WHERE captioned_at >= days.day AT TIME ZONE 'UTC'
      AND captioned_at < (days.day + interval '1 day') AT TIME ZONE 'UTC'
    GROUP BY bucket, task, model) AS found
"""
_FAILURES = """
CREATE VIEW failures WITH (security_invoker = true) AS
SELECT c.id, c.bucket, c.object_name, c.generation, c.task, c.error_code, c.error AS words,
       coalesce(remedies.remedy, 'remove the reason in the words, then redrive') AS remedy,
       c.attempts, c.updated_at AS failed_at
FROM captions AS c LEFT JOIN (VALUES {remedies}) AS remedies (error_code, remedy) USING (error_code)
WHERE c.status = 'failed'
"""
# Answers are checked before the cast: a wrong answer must not end a query of all.
_BOXES = """
CREATE VIEW caption_boxes WITH (security_invoker = true) AS
SELECT c.id AS caption_id, c.bucket, c.object_name, c.generation, c.task, c.model, c.captioned_at,
       found.number, found.label, found.x1, found.y1, found.x2, found.y2, c.width, c.height
FROM captions AS c
CROSS JOIN LATERAL (
    SELECT shapes.number, labels.label, corners.*
    FROM jsonb_array_elements(CASE WHEN jsonb_typeof(c.result -> 'bboxes') = 'array' THEN c.result -> 'bboxes'
                                   WHEN jsonb_typeof(c.result -> 'quad_boxes') = 'array'
                                   THEN c.result -> 'quad_boxes' END) WITH ORDINALITY AS shapes (shape, number)
    LEFT JOIN jsonb_array_elements_text(
        CASE WHEN jsonb_typeof(c.result -> 'labels') = 'array' THEN c.result -> 'labels'
             WHEN jsonb_typeof(c.result -> 'bboxes_labels') = 'array' THEN c.result -> 'bboxes_labels' END)
        WITH ORDINALITY AS labels (label, number) ON labels.number = shapes.number
    CROSS JOIN LATERAL (
        SELECT min(value) FILTER (WHERE place % 2 = 1) AS x1, min(value) FILTER (WHERE place % 2 = 0) AS y1,
               max(value) FILTER (WHERE place % 2 = 1) AS x2, max(value) FILTER (WHERE place % 2 = 0) AS y2
        FROM (SELECT CASE WHEN jsonb_typeof(number) = 'number' THEN number::float8 END AS value, place
              FROM jsonb_array_elements(CASE WHEN jsonb_typeof(shapes.shape) = 'array' THEN shapes.shape END)
                   WITH ORDINALITY AS numbers (number, place)) AS numbers) AS corners) AS found
WHERE c.status = 'captioned' AND c.result IS NOT NULL
  AND NOT EXISTS (SELECT FROM captions AS newer
                  WHERE newer.bucket = c.bucket AND newer.object_name = c.object_name
                    AND newer.generation > c.generation)
"""

_SIGNATURE = "search_captions(text, integer, boolean, text)"
# As `db.word_search`: the statistics have no rare words, so the newest captions decide between a walk and the
# index. Without sorting where an order is there already: Postgres does not see that the first rows are enough.
_SEARCH = """
CREATE FUNCTION search_captions(words text, most integer DEFAULT 100, ranked boolean DEFAULT false,
                                name_prefix text DEFAULT '')
RETURNS TABLE (id bigint, bucket text, object_name text, generation bigint, task text, caption text, result jsonb,
               model text, captioned_at timestamptz, rank real)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET enable_sort = off AS $$
DECLARE
    chosen CONSTANT text := (SELECT search_language.language FROM public.search_language);
    query CONSTANT tsquery := websearch_to_tsquery(chosen::regconfig, words);
    candidates CONSTANT integer := CASE WHEN ranked THEN 1000 ELSE most END;
    near CONSTANT integer := 5000;
    document CONSTANT text := format(
        'CASE WHEN copy.language = %1$L AND copy.words IS NOT NULL THEN copy.words
              ELSE to_tsvector(%1$L, copy.caption) END', chosen);
    condition text := format('to_tsvector(%L, copy.caption) @@ $1', chosen);
    hit_order text := 'copy.id + 0';
    hits numeric;
BEGIN
    EXECUTE format('SELECT count(*) FILTER (WHERE %s @@ $1)
                    FROM (SELECT * FROM public.caption_search ORDER BY id DESC LIMIT $2) AS copy', document)
    INTO hits USING query, near;
    IF hits * hits * (SELECT max(copy.id) FROM public.caption_search AS copy)
       > candidates::numeric * near * near THEN
        condition := document || ' @@ $1';
        hit_order := 'copy.id';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT * FROM (
             SELECT c.id, c.bucket, c.object_name, c.generation, c.task, c.caption, c.result, c.model,
                    c.captioned_at, ts_rank_cd(hit.document, $1, 1) AS rank
             FROM (SELECT copy.id, %1$s AS document FROM public.caption_search AS copy WHERE %2$s
                   ORDER BY %3$s DESC OFFSET 0) AS hit
             CROSS JOIN LATERAL (
                 SELECT * FROM public.captions AS c
                 WHERE c.id = hit.id AND c.status = ''captioned'' AND starts_with(c.object_name, $3)
                   AND NOT EXISTS (SELECT FROM public.captions AS newer
                                   WHERE newer.bucket = c.bucket AND newer.object_name = c.object_name
                                     AND newer.generation > c.generation)
                 OFFSET 0) AS c
             LIMIT $2) AS found
         ORDER BY CASE WHEN $4 THEN rank END DESC, id DESC LIMIT $5', document, condition, hit_order)
    USING query, candidates, name_prefix, ranked, most;
END $$
"""
_VIEWS = ("caption_stats", "failures", "caption_boxes")


def upgrade() -> None:
    """Create the views and the function, and let each role read them."""
    values = ", ".join(
        f"('{code}', '{remedy.replace(chr(39), chr(39) * 2)}')" for code, remedy in _REMEDIES.items()
    )
    for statement in (_STATS, _FAILURES.format(remedies=values), _BOXES, _SEARCH):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
    for view in _VIEWS:
        op.execute(f"GRANT SELECT ON {view} TO {_ROLES}")
        op.execute(f"ALTER VIEW {view} OWNER TO dropline_migrator")
    op.execute(f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO {_ROLES}")
    op.execute(f"ALTER FUNCTION {_SIGNATURE} OWNER TO dropline_migrator")
    op.execute("GRANT SELECT ON search_language TO dropline_editor")


def downgrade() -> None:
    """Drop the views and the function."""
    op.execute(sa.text(f"DROP FUNCTION {_SIGNATURE}"))
    for view in _VIEWS:
        op.execute(f"DROP VIEW {view}")
    op.execute("REVOKE ALL ON search_language FROM dropline_editor")
