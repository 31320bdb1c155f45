"""Why the pool was not woken, or not put to sleep.

TransientError
├── PoolChanging        a worker is putting the pool to sleep this moment; deliver again
├── ScalingRefused      Cloud Run did not do it, and may the next time (busy, quota, no connection to begin with)
└── ScalingUnknown      Cloud Run may have done it: the answer is lost, or says that something broke
PermanentError
└── ScalingDenied       Cloud Run will not do it before somebody changes a right or a name

The last two kinds are kept apart because a call to 0 that may still be under way forbids what one that was refused
allows.
"""

from dropline.errors import PermanentError, TransientError


class PoolChanging(TransientError):
    """A worker is putting the pool to sleep."""

    default_code = "pool_changing"


class ScalingRefused(TransientError):
    """Nothing has changed, and the same call may succeed later."""

    default_code = "scaling_refused"


class ScalingUnknown(TransientError):
    """Whether anything has changed, or will, is not known."""

    default_code = "scaling_unknown"


class ScalingDenied(PermanentError):
    """Nothing has changed, and nothing will until the settings or the rights do."""

    default_code = "scaling_denied"
