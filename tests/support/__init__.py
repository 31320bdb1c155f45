"""Helpers shared by several directories of tests."""
