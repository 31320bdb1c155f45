"""Fixtures with real services: started once per run, on free ports, with a fresh database per test."""

pytest_plugins = [
    "tests.support.services",
    "tests.support.storage_rig",
    "tests.support.browser",
    "tests.support.system_faults",
]

_LONGEST_NAME = 16


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name long bytes by their length.

    Bytes with a time, as gzip writes it, would give a test another name in each process of a run.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > _LONGEST_NAME else None
