"""Captions of people: columns, functions that all ways of editing call, and the role `dropline_editor`.

Revision: 0016, after 0015. Function and worker of the release before run with both revisions. An edit takes the
row from a claim of such a worker by the attempt number, and such a worker writes the caption back as any other.
The columns are without a value, for which Postgres rewrites no row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ROLE = "dropline_editor"

# As in 0004: a login without CREATEROLE can migrate where the role exists, and another database may create it now.
_CREATE_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{_ROLE}') THEN
        CREATE ROLE {_ROLE} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# The names of the parameters are those of the columns, for named arguments; inside, a bare name is a column.
_EDIT = "edit_caption(text, text, text, bigint, text, text, text)"
_REVERT = "revert_caption(text, text, bigint, text, text, text)"
_ADOPT = "adopt_caption(bigint, text, timestamptz)"
_LOCK = "locked_caption(text, text, bigint, text)"
_WORDS = "checked_caption(text)"
_EDITOR = "editor_name(text)"
_TAG = "caption_tag(text)"
_FIXED_PATH = "SET search_path = pg_catalog, public, pg_temp"

_HELPERS = (
    f"""
    CREATE FUNCTION caption_tag(caption text) RETURNS text LANGUAGE sql IMMUTABLE {_FIXED_PATH}
    RETURN left(encode(sha256(convert_to(coalesce(caption, ''), 'UTF8')), 'hex'), 32)
    """,
    # A service has checked the name that it passes on. The name that another login gives stands before the login.
    f"""
    CREATE FUNCTION editor_name(given text) RETURNS text LANGUAGE sql STABLE {_FIXED_PATH} AS $$
        SELECT left(CASE
            WHEN words.name = '' THEN session_user::text
            WHEN pg_has_role(session_user, 'dropline_gallery', 'MEMBER')
                 OR pg_has_role(session_user, 'dropline_ingest', 'MEMBER') THEN words.name
            ELSE words.name || ' (' || session_user || ')' END, 200)
        FROM (SELECT btrim(regexp_replace(coalesce(given, ''), '[\\u0001-\\u001F\\u007F-\\u009F]', ' ', 'g'))
              AS name) AS words
    $$
    """,
    f"""
    CREATE FUNCTION checked_caption(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE {_FIXED_PATH} AS $$
    DECLARE
        words CONSTANT text := btrim(coalesce(given, ''), E' \\t\\r\\n');
    BEGIN
        IF words = '' THEN
            RAISE EXCEPTION 'the caption is empty: give it at least one character' USING ERRCODE = 'DL003';
        ELSIF octet_length(words) > 8192 THEN
            RAISE EXCEPTION 'the caption has % bytes of UTF-8: shorten it to 8192', octet_length(words)
                USING ERRCODE = 'DL003';
        ELSIF words ~ '[\\u0001-\\u0008\\u000B\\u000C\\u000E-\\u001F\\u007F-\\u009F]' THEN
            RAISE EXCEPTION 'the caption has a control character: leave it out' USING ERRCODE = 'DL003';
        END IF;
        RETURN words;
    END $$
    """,
    # Without a task: the row of the write-back.
    f"""
    CREATE FUNCTION locked_caption(of_bucket text, of_name text, of_generation bigint, of_task text)
    RETURNS public.captions LANGUAGE plpgsql {_FIXED_PATH} AS $$
    DECLARE
        uri CONSTANT text := 'gs://' || of_bucket || '/' || of_name || coalesce('#' || of_generation, '');
        found_row public.captions;
    BEGIN
        SELECT * INTO found_row FROM public.captions
        WHERE bucket = of_bucket AND object_name = of_name AND task <> '*' AND (of_task IS NULL OR task = of_task)
          AND generation = coalesce(of_generation, (
              SELECT max(generation) FROM public.captions WHERE bucket = of_bucket AND object_name = of_name))
        ORDER BY write_back DESC, id LIMIT 1 FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION '% has no row%: drop the object first, or correct the name', uri,
                coalesce(' of the task ' || of_task, '') USING ERRCODE = 'DL001';
        ELSIF found_row.status IN ('deleted', 'superseded') THEN
            RAISE EXCEPTION '%#% is %: edit the generation that is live', 'gs://' || of_bucket || '/' || of_name,
                found_row.generation, found_row.status USING ERRCODE = 'DL002';
        END IF;
        RETURN found_row;
    END $$
    """,
)

# A repetition after a lost answer has no effect, and is no conflict.
_CHECK = """
        IF if_tag <> public.caption_tag(before.caption) THEN
            RAISE EXCEPTION 'the caption of gs://%/% has changed meanwhile: read it again, then edit it',
                before.bucket, before.object_name USING ERRCODE = 'DL004';
        END IF;
"""
_KEEP = """
        INSERT INTO public.caption_history
               (caption_id, caption, result, model, model_revision, captioned_at, edited_by, edited_at)
        SELECT before.id, before.caption, before.result, before.model, before.model_revision, before.captioned_at,
               before.edited_by, before.edited_at
        WHERE before.caption IS NOT NULL;
"""
# A claim in flight loses the row with its attempt number, a write-back in flight with the name of its child. The
# next attempts are the first ones since a redrive. A listening worker looks for the due row.
_TAKE = """attempts = attempts + 1, attempts_before_redrive = attempts + 1, lost_attempts = 0, slow_attempts = 0,
               claimed_by = NULL, priority = 0, not_before = NULL, failing_since = NULL, redo_failed_at = NULL,
               error_code = NULL, error = NULL, updated_at = now()"""
_WRITE_BACK = "lease_until = CASE WHEN write_back THEN now() END, metadata_written_at = NULL, redo = false"
_SIGNAL = "PERFORM pg_notify('due_captions', row_id::text);"

_EDIT_FUNCTION = f"""
CREATE FUNCTION edit_caption(
    bucket text, object_name text, caption text, generation bigint DEFAULT NULL, task text DEFAULT NULL,
    edited_by text DEFAULT NULL, if_tag text DEFAULT NULL,
    OUT row_id bigint, OUT is_changed boolean, OUT is_due boolean)
LANGUAGE plpgsql SECURITY DEFINER {_FIXED_PATH} AS $$
#variable_conflict use_column
DECLARE
    words CONSTANT text := public.checked_caption(edit_caption.caption);
    person CONSTANT text := public.editor_name(edit_caption.edited_by);
    before public.captions;
BEGIN
    before := public.locked_caption(edit_caption.bucket, edit_caption.object_name, edit_caption.generation,
                                    edit_caption.task);
    row_id := before.id;
    is_changed := before.edited_by IS NULL OR before.redo OR before.caption IS DISTINCT FROM words;
    is_due := before.lease_until IS NOT NULL;
    IF is_changed THEN
        {_CHECK}
        {_KEEP}
        UPDATE public.captions
        SET status = 'captioned', caption = words, result = NULL, model = 'person', model_revision = NULL,
               captioned_at = now(), edited_by = person, edited_at = clock_timestamp(), reverted_by = NULL,
               reverted_at = NULL, {_WRITE_BACK}, {_TAKE}
        WHERE id = before.id;
        is_due := before.write_back;
    END IF;
    IF is_due THEN
        {_SIGNAL}
    END IF;
END $$
"""
# Without a caption of the model in the history, the model makes one: the person's caption stays until then.
_REVERT_FUNCTION = f"""
CREATE FUNCTION revert_caption(
    bucket text, object_name text, generation bigint DEFAULT NULL, task text DEFAULT NULL,
    reverted_by text DEFAULT NULL, if_tag text DEFAULT NULL,
    OUT row_id bigint, OUT is_changed boolean, OUT is_due boolean)
LANGUAGE plpgsql SECURITY DEFINER {_FIXED_PATH} AS $$
#variable_conflict use_column
DECLARE
    person CONSTANT text := public.editor_name(revert_caption.reverted_by);
    before public.captions;
    models public.caption_history;
BEGIN
    before := public.locked_caption(revert_caption.bucket, revert_caption.object_name, revert_caption.generation,
                                    revert_caption.task);
    row_id := before.id;
    is_changed := before.edited_by IS NOT NULL AND NOT before.redo;
    is_due := before.lease_until IS NOT NULL OR before.redo;
    IF is_changed THEN
        {_CHECK}
        SELECT * INTO models FROM public.caption_history
        WHERE caption_id = before.id AND edited_by IS NULL ORDER BY id DESC LIMIT 1;
        IF FOUND THEN
            {_KEEP}
            UPDATE public.captions
            SET caption = models.caption, result = models.result, model = models.model,
                   model_revision = models.model_revision, captioned_at = models.captioned_at, edited_by = NULL,
                   edited_at = NULL, reverted_by = person, reverted_at = clock_timestamp(), {_WRITE_BACK}, {_TAKE}
            WHERE id = before.id;
            is_due := before.write_back;
        ELSE
            UPDATE public.captions
            SET redo = true, lease_until = NULL, queued_at = now(), reverted_by = person,
                   reverted_at = clock_timestamp(), {_TAKE}
            WHERE id = before.id;
            is_due := true;
        END IF;
    END IF;
    IF is_due THEN
        {_SIGNAL}
    END IF;
END $$
"""
# In the transaction that has inserted the row.
_ADOPT_FUNCTION = f"""
CREATE FUNCTION adopt_caption(of_row bigint, with_caption text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER {_FIXED_PATH} AS $$
BEGIN
    UPDATE public.captions
    SET status = 'captioned', caption = with_caption, model = 'person', captioned_at = now(),
           edited_by = 'object metadata', edited_at = coalesce(at, now()), metadata_written_at = now(),
           updated_at = now()
    WHERE id = of_row AND status = 'queued' AND attempts = 0 AND write_back;
    RETURN FOUND;
END $$
"""
_RIGHTS = (
    *(
        f"REVOKE ALL ON FUNCTION {each} FROM PUBLIC"
        for each in (_EDIT, _REVERT, _ADOPT, _LOCK, _WORDS, _EDITOR, _TAG)
    ),
    *(
        f"GRANT EXECUTE ON FUNCTION {each} TO {_ROLE}, dropline_ingest, dropline_gallery"
        for each in (_EDIT, _REVERT, _TAG)
    ),
    f"GRANT EXECUTE ON FUNCTION {_ADOPT} TO dropline_ingest, dropline_gallery",
    f"GRANT USAGE ON SCHEMA public TO {_ROLE}",
    f"GRANT SELECT ON captions, current_captions, caption_search, caption_history, alembic_version TO {_ROLE}",
    *(
        f"ALTER FUNCTION {each} OWNER TO dropline_migrator"
        for each in (_EDIT, _REVERT, _ADOPT, _LOCK, _WORDS, _EDITOR, _TAG)
    ),
)

_NEWS_BEFORE = """(OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'running')
           OR OLD.metadata_written_at IS DISTINCT FROM NEW.metadata_written_at
           OR (NEW.status = 'captioned' AND OLD.lease_until IS NOT NULL AND NEW.lease_until IS NULL)"""
_NEWS = f"""{_NEWS_BEFORE}
           OR OLD.edited_at IS DISTINCT FROM NEW.edited_at OR OLD.reverted_at IS DISTINCT FROM NEW.reverted_at"""
_TRIGGERS = (
    ("captions_notify_update", "AFTER", "notify_caption"),
    ("captions_number_update", "BEFORE", "number_caption_change"),
)
_COLUMNS = ("edited_by", "edited_at", "reverted_by", "reverted_at")


def upgrade() -> None:
    """Add the columns, the functions and the role; notify listeners of edits."""
    for name in _COLUMNS:
        kind = sa.DateTime(timezone=True) if name.endswith("_at") else sa.Text()
        op.add_column("captions", sa.Column(name, kind))
    op.execute(_CREATE_ROLE)
    for statement in (*_HELPERS, _EDIT_FUNCTION, _REVERT_FUNCTION, _ADOPT_FUNCTION, *_RIGHTS):
        op.execute(statement)
    _replace_triggers(_NEWS)


def _replace_triggers(news: str) -> None:
    for name, moment, function in _TRIGGERS:
        op.execute(
            f"CREATE OR REPLACE TRIGGER {name} {moment} UPDATE ON captions FOR EACH ROW WHEN ({news}) "
            f"EXECUTE FUNCTION {function}()"
        )


def downgrade() -> None:
    """Drop the functions and the columns. The role stays, without rights: other databases may use it."""
    _replace_triggers(_NEWS_BEFORE)
    for each in (_EDIT, _REVERT, _ADOPT, _LOCK, _WORDS, _EDITOR, _TAG):
        op.execute(f"DROP FUNCTION {each}")
    op.execute(
        f"REVOKE ALL ON captions, current_captions, caption_search, caption_history, alembic_version FROM {_ROLE}"
    )
    op.execute(f"REVOKE ALL ON SCHEMA public FROM {_ROLE}")
    for name in reversed(_COLUMNS):
        op.drop_column("captions", name)
