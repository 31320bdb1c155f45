"""Postgres: the captions table, the connections to it, and every SQL statement."""
