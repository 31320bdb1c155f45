"""What can go wrong with a benchmark."""


class RunInvalidError(Exception):
    """A part did not end as it has to, so its figures would mean nothing; says what was found instead."""
