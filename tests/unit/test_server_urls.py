"""URLs of Postgres and Redis: one reading for every library, or an error that names the variable."""

import pytest
from kombu.utils.url import parse_url as parse_celery_url
from pydantic import SecretStr
from redis.connection import parse_url as parse_client_url

from db.conninfo import parse_conninfo
from db.session import reader_settings, writer_settings
from dropline.broker.configuration import make_producer
from dropline.errors import SettingsError
from dropline.redis_url import check_redis_url
from dropline.settings import BrokerSettings, Settings

SECRET = "hunter2"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("u:p@h:5432/d", {"user": "u", "password": "p", "host": "h", "port": "5432", "dbname": "d"}),
        ("u:a/b#c?d:e@h/d", {"user": "u", "password": "a/b#c?d:e", "host": "h", "dbname": "d"}),
        ("u:p@ss@h/d", {"user": "u", "password": "p@ss", "host": "h", "dbname": "d"}),
        ("u:p@ss/w@h/d", {"user": "u", "password": "p@ss/w", "host": "h", "dbname": "d"}),
        ("u:12/3@h/d", {"user": "u", "password": "12/3", "host": "h", "dbname": "d"}),
        ("u%40x.iam:p%40ss%25%2F@h/d", {"user": "u@x.iam", "password": "p@ss%/", "host": "h", "dbname": "d"}),
        ("u:@h/d", {"user": "u", "host": "h", "dbname": "d"}),
        ("u@h/d", {"user": "u", "host": "h", "dbname": "d"}),
        ("h:5432/d?application_name=a@b", {"host": "h", "port": "5432", "dbname": "d", "application_name": "a@b"}),
        ("h", {"host": "h"}),
        ("h:/d", {"host": "h", "dbname": "d"}),
        ("u@[::1]:5432/d", {"user": "u", "host": "::1", "port": "5432", "dbname": "d"}),
        ("/d?host=/socket", {"host": "/socket", "dbname": "d"}),
        ("u@%2Fcloudsql%2Fp:r:i/d", None),
        ("h/d?sslmode=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
        (
            "u:p@a,b:5433/d?target_session_attrs=read-write",
            {
                "user": "u",
                "password": "p",
                "host": "a,b",
                "port": ",5433",
                "dbname": "d",
                "target_session_attrs": "read-write",
            },
        ),
        ("h/d\n", {"host": "h", "dbname": "d"}),
    ],
)
def test_an_address_of_postgres(scheme: str, address: str, expected: dict[str, str] | None) -> None:
    """Special characters, several hosts, sockets and a line break at the end; None: refused."""
    url = f" {scheme}://{address}"
    if expected is None:
        with pytest.raises(SettingsError, match="NAME must look like"):
            parse_conninfo(url, "NAME")
    else:
        assert parse_conninfo(url, "NAME") == expected


def test_psqls_own_form_of_an_address() -> None:
    """`host=… dbname=…`, with quotation marks as psql has them."""
    found = parse_conninfo("host=/cloudsql/p:r:i user=u password='a b' dbname=d\n", "NAME")
    assert found == {"host": "/cloudsql/p:r:i", "user": "u", "password": "a b", "dbname": "d"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must look like postgresql://"),
        ("foo", "must look like postgresql://"),
        ("postgresql://", "must look like postgresql://"),
        ("postgresql:/h/d", "must look like postgresql://"),
        (f"mysql://u:{SECRET}@h/d", "must look like postgresql://"),
        (f"u:{SECRET}@h/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h:port/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h /d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@[::1/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h/d?sslmode", "must look like postgresql://"),
        (f'"postgresql://u:{SECRET}@h/d"', "remove the quotation marks"),
        (f"postgresql://u:{SECRET}%zz@h/d", "write % as %25"),
        (f"postgresql://u:{SECRET}%@h/d", "write % as %25"),
        (f"postgresql://u:{SECRET}%00@h/d", "write % as %25"),
        (f"postgresql://u:{SECRET}@h:99999/d", 'invalid port number: "99999"'),
        (f"postgresql://u:{SECRET}@h:0/d", 'invalid port number: "0"'),
        (f"postgresql://u:{SECRET}@h/d?schema=public", "the parameter schema, .* tables are in the schema public"),
        (f"postgresql://u:{SECRET}@h/d?pgbouncer=true", "the parameter pgbouncer, .*DROPLINE_DATABASE__POOLER"),
        (f"postgresql://u:{SECRET}@h/d?connection_limit=1", "the parameter connection_limit, .*POOL_SIZE"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=on", 'invalid sslmode value: "on"'),
        (f"postgresql://u:{SECRET}@a,b/d?target_session_attrs=rw", "invalid target_session_attrs value"),
        (f"postgresql://u:{SECRET}@a,b,c/d?port=1,2", "could not match 2 port numbers to 3 hosts"),
        (f"postgresql://u:{SECRET}@/d?service=nowhere", 'definition of service "nowhere" not found'),
        (f"host=h password={SECRET} nonsense=1", "the parameter nonsense"),
        (f"host=h password={SECRET} and more", "cannot be used|is not an address"),
    ],
)
def test_another_address_is_refused_without_being_shown(url: str, told: str) -> None:
    """The error names the variable, says what to do, and has no password."""
    with pytest.raises(SettingsError, match=f"^NAME .*(?:{told})") as caught:
        parse_conninfo(url, "NAME")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_variable_is_named() -> None:
    """The reader's URL and the writer's URL have variables of their own."""
    wrong = SecretStr("postgresql://h/d?schema=public")
    settings = Settings.model_validate({"DATABASE_URL": wrong, "database": {"url": wrong}})
    with pytest.raises(SettingsError, match=r"^DATABASE_URL has the parameter schema"):
        reader_settings(settings)
    with pytest.raises(SettingsError, match=r"^DROPLINE_DATABASE__URL has the parameter schema"):
        writer_settings(settings)


@pytest.mark.parametrize(
    ("url", "password", "database"),
    [
        ("redis://:p@h:6380/3", "p", 3),
        ("redis://u:a/b#c?d@h:6380/0", "a/b#c?d", 0),
        ("redis://:p@ss@h:6380/0", "p@ss", 0),
        ("redis://:p%23%25@h:6380", "p#%", 0),
        ("redis://h:6380/", None, 0),
        ("redis://:@h:6380/0\n", None, 0),
        ("rediss://:p@[::1]:6380/0?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=false", "p", 0),
        ("rediss://:p@h:6380/0", "p", 0),
    ],
)
def test_both_libraries_read_a_url_of_redis_alike(url: str, password: str | None, database: int) -> None:
    """Celery and the Redis client find the same password, host, port, database and mode of TLS."""
    checked = check_redis_url(url, "NAME")
    of_celery, of_client = parse_celery_url(checked), parse_client_url(checked)
    assert of_celery["password"] == of_client.get("password") == password
    assert of_celery["hostname"] == of_client["host"]
    assert of_celery["port"] == of_client["port"] == 6380
    assert int(of_celery["virtual_host"] or 0) == of_client.get("db", 0) == database
    assert ("ssl" in of_celery) == (of_client.get("ssl_cert_reqs") == "required") == url.startswith("rediss")
    make_producer(BrokerSettings(url=SecretStr(url))).close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("foo", "must look like redis://"),
        ("redis://", "must look like redis://"),
        (f"http://:{SECRET}@h", "must look like redis://"),
        (f"redis://:{SECRET}@h/notanumber", "number of the database"),
        (f"redis://:{SECRET}@h/0/1", "number of the database"),
        (f"redis://:{SECRET}@h:99999/0", "the port 99999"),
        (f"redis://:{SECRET}@h:port/0", "must look like redis://"),
        (f"redis://:{SECRET}@a,b/0", "several hosts"),
        (f"redis://:{SECRET}@/0", "names no host"),
        (f"redis://:{SECRET}%@h/0", "write % as %25"),
        (f"redis://:{SECRET}@h?db=3", "the parameter db"),
        (f"redis://:{SECRET}@h/0?ssl_cert_reqs=none", "rediss://"),
        (f"rediss://:{SECRET}@h/0?ssl_cert_reqs=maybe", "required, optional or none"),
        (f"unix://:{SECRET}@/run/redis.sock", "a Unix socket cannot be used"),
        (f"redis+socket://:{SECRET}@/run/redis.sock", "a Unix socket cannot be used"),
        (f"sentinel://:{SECRET}@h:26379/0", "Sentinel is not supported"),
        (f"'redis://:{SECRET}@h/0'", "remove the quotation marks"),
    ],
)
def test_another_url_of_redis_is_refused_without_being_shown(url: str, told: str) -> None:
    """The error names the variable, says what to do, and has no password."""
    with pytest.raises(SettingsError, match=f"^DROPLINE_BROKER__URL .*{told}") as caught:
        make_producer(BrokerSettings(url=SecretStr(url)))
    assert SECRET not in str(caught.value)
