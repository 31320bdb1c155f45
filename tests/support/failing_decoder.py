"""A decoder process that fails at its start, with a traceback."""

raise RuntimeError("a library is missing")
