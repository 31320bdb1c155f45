"""Soak and chaos: a stack under load, with parts killed at random; `python -m tests.chaos --help`."""
