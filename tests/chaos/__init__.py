"""Soak and chaos: a stack under load while its parts are killed; `python -m tests.chaos --help`."""
