"""Fixtures with real services: started once per run, on free ports, with a fresh database per test."""

pytest_plugins = ["tests.support.services", "tests.support.storage_rig", "tests.support.browser"]
