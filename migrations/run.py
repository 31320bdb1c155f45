"""Run migrations from code, against a URL."""

from importlib import resources

from alembic import command
from alembic.config import Config

from db.session import sqlalchemy_url


def config(url: str) -> Config:
    """Alembic's configuration for the packaged migrations and one database."""
    found = Config()
    found.set_main_option("script_location", str(resources.files("migrations")))
    found.set_main_option("sqlalchemy.url", sqlalchemy_url(url).replace("%", "%%"))
    return found


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`; nothing to do is fine."""
    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take the database down to `revision`. Drops data."""
    command.downgrade(config(url), revision)


def check(url: str) -> None:
    """Raise when the models and the migrated schema disagree."""
    command.check(config(url))
