"""Scale to zero: an idle worker pool has 0 instances and costs nothing; the next event scales the pool up again.

`activation.Activator` is for processes that enqueue messages, `deactivation.Deactivator` for the worker.
`protocol` has the steps of both; `docs/decisions/0011-sleep-and-wake.md` proves the protocol.
"""
