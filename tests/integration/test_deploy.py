"""`python -m migrations.deploy`, with an administrator who is not a superuser, as in Cloud SQL."""

from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from dropline.errors import AccessDenied
from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations import deploy
from migrations.run import downgrade

INGEST, READER, MIGRATOR = "function@project.iam", "ana@example.com", "migrator@project.iam"
GRANTS = [f"--grant=dropline_ingest={INGEST}", f"--grant=dropline_reader={READER}"]
INSERT = (
    "INSERT INTO captions (bucket, object_name, generation, task, status) VALUES ('b', 'n', 1, '<OD>', 'queued')"
)


@pytest.fixture
def address(state_directory: Path) -> Iterator[str]:
    """`host:port/database` of a server of the test's own: roles belong to a server, not to a database."""
    with Supervisor(state_directory / "logs") as supervisor:
        server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "test", "fsync=off")
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("CREATE ROLE cloudsqlsuperuser NOLOGIN CREATEROLE CREATEDB")
            for login in (INGEST, READER, MIGRATOR):
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'test'").format(sql.Identifier(login)))
            admin.execute(sql.SQL("GRANT cloudsqlsuperuser TO {}").format(sql.Identifier(MIGRATOR)))
            admin.execute("CREATE DATABASE dropline OWNER cloudsqlsuperuser")
        yield f"127.0.0.1:{urlsplit(server.url).port}/dropline"


def url_of(login: str, address: str) -> str:
    """Logins as in Terraform, but with passwords: no proxy adds credentials."""
    return f"postgresql://{quote(login)}:test@{address}?sslmode=disable"


@pytest.fixture
def migrator(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the migrations job."""
    url = f"{url_of(MIGRATOR, address)}&options=-crole%3Dcloudsqlsuperuser"
    monkeypatch.setenv("DROPLINE_DATABASE__URL", url)


@pytest.mark.usefixtures("migrator")
def test_logins_may_do_what_their_role_may(address: str) -> None:
    """After one deployment and a repetition, the login of the function inserts, and a reader only reads."""
    for _ in range(2):
        deploy.main(GRANTS)
    with psycopg.connect(url_of(INGEST, address)) as function:
        function.execute(INSERT)
    with psycopg.connect(url_of(READER, address)) as reader:
        assert reader.execute("SELECT count(*) FROM current_captions").fetchone() == (1,)
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute(INSERT)


@pytest.mark.usefixtures("migrator")
def test_a_login_loses_the_role_that_is_no_longer_given(address: str) -> None:
    """An editor who becomes a reader reads, and edits no more; other logins keep their roles."""
    edit = f"--grant=dropline_editor={READER}"
    call = "SELECT edit_caption('b', 'n', 'a cat')"
    deploy.main([*GRANTS, edit])
    with (
        psycopg.connect(url_of(READER, address)) as person,
        pytest.raises(psycopg.DatabaseError, match="has no row"),
    ):
        person.execute(call)
    deploy.main(GRANTS)
    with psycopg.connect(url_of(READER, address), autocommit=True) as person:
        assert person.execute("SELECT count(*) FROM current_captions").fetchone() == (0,)
        with pytest.raises(errors.InsufficientPrivilege):
            person.execute(call)
    with psycopg.connect(url_of(INGEST, address)) as function:
        function.execute(INSERT)


@pytest.mark.parametrize("text", ["postgres=me", "dropline_reader", "dropline_reader="])
def test_a_grant_that_makes_no_sense_is_refused(text: str) -> None:
    """Only Dropline's roles are granted, and only to a named login."""
    with pytest.raises(ArgumentTypeError, match="must look like"):
        deploy.parse_grant(text)


@pytest.mark.usefixtures("migrator")
def test_a_login_without_createrole_migrates_where_the_role_exists(address: str) -> None:
    """Revision 0004 needs the role of the gallery: one line says so, and an administrator can create it before."""
    deploy.main(GRANTS)
    downgrade(f"{url_of(MIGRATOR, address)}&options=-crole%3Dcloudsqlsuperuser", "0003")
    with psycopg.connect(f"postgresql://postgres:test@{address}", autocommit=True) as admin:
        admin.execute("DROP ROLE dropline_gallery")
        admin.execute("ALTER ROLE cloudsqlsuperuser NOCREATEROLE")
        with pytest.raises(AccessDenied, match=r"lacks CREATEROLE .or run `CREATE ROLE dropline_gallery` before"):
            deploy.main(GRANTS)
        admin.execute("CREATE ROLE dropline_gallery")
    deploy.main(GRANTS)


@pytest.mark.usefixtures("migrator")
def test_the_job_changes_the_language_of_searches(address: str) -> None:
    """The migrations' login, which is no superuser, changes the language; a repetition is harmless."""
    for _ in range(2):
        deploy.main([*GRANTS, "--search-language=german"])
        with psycopg.connect(url_of(READER, address)) as reader:
            assert reader.execute("SELECT language::text FROM search_language").fetchall() == [("german",)]
