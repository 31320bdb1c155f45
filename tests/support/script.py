"""Scripted errors and a journal of calls, shared by the doubles of a test."""

from collections import defaultdict


class Script:
    """Records the calls of all doubles in order, and raises planned errors."""

    def __init__(self) -> None:
        #: Names of the calls, oldest first.
        self.journal: list[str] = []
        self._errors: defaultdict[str, list[Exception | None]] = defaultdict(list)

    def plan(self, call: str, *errors: Exception | None) -> None:
        """Plan the next calls named `call`: each raises an error, or succeeds for None."""
        self._errors[call].extend(errors)

    def step(self, call: str) -> None:
        """Note the call, then raise the planned error."""
        self.journal.append(call)
        self.check(call)

    def check(self, call: str) -> None:
        """Raise the planned error without a note in the journal."""
        if planned := self._errors[call]:
            error = planned.pop(0)
            if error is not None:
                raise error
