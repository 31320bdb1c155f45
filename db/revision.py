"""The schema revision needed by the code."""

import functools
from importlib import resources


@functools.cache
def needed_revision() -> str:
    """The newest revision among the packaged migrations, for example `0004`.

    Migrations are numbered and in sequence. Only their file names are read: the code of this room imports no
    migration.
    """
    names = (each.name for each in resources.files("migrations.versions").iterdir())
    return max(name[:4] for name in names if name[:4].isdecimal())
