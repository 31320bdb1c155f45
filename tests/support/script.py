"""Scripted errors and a journal of calls, shared by the doubles of one test."""

from collections import defaultdict


class Script:
    """Records the calls of all doubles in one order, and raises the errors that a test has planned."""

    def __init__(self) -> None:
        #: Names of the calls, oldest first.
        self.journal: list[str] = []
        self._errors: defaultdict[str, list[Exception | None]] = defaultdict(list)

    def plan(self, call: str, *errors: Exception | None) -> None:
        """Plan the next calls named `call`: each raises its error, or succeeds where the error is None."""
        self._errors[call].extend(errors)

    def step(self, call: str) -> None:
        """Note the call, then raise its planned error."""
        self.journal.append(call)
        self.check(call)

    def check(self, call: str) -> None:
        """Raise the planned error of a call that the journal leaves out."""
        if planned := self._errors[call]:
            error = planned.pop(0)
            if error is not None:
                raise error
