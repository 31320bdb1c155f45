"""Sleep and wake: a pool of workers that costs nothing while no image comes, and is woken by the next one.

`Waker` is for whoever puts messages on the queue, `Sleeper` for the worker; `protocol` has the argument's steps.
See `docs/decisions/` for the argument itself.
"""
