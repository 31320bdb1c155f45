"""Errors of scaling the worker pool up or to zero.

TransientError
├── PoolChanging        a worker is scaling the worker pool to zero at this moment; deliver the event again
├── ScalingRefused      the number of instances is unchanged; a later call may succeed (busy, quota, no token)
└── ScalingUnknown      Cloud Run may have changed the number of instances: no answer, or an answer of a failure
PermanentError
└── ScalingDenied       the number of instances is unchanged, until a permission or a name is corrected

`ScalingRefused` and `ScalingUnknown` differ in the consequence: while a call to 0 may still be under way, calls
to 1 are forbidden; after a refused call to 0, calls to 1 are safe.
"""

from dropline.errors import PermanentError, TransientError


class PoolChanging(TransientError):
    """A worker is scaling the worker pool to zero."""

    default_code = "pool_changing"


class ScalingRefused(TransientError):
    """The number of instances is unchanged; the same call may succeed later."""

    default_code = "scaling_refused"


class ScalingUnknown(TransientError):
    """The number of instances may have changed, or may still change."""

    default_code = "scaling_unknown"


class ScalingDenied(PermanentError):
    """The number of instances is unchanged; the same call fails until the settings or the permissions change."""

    default_code = "scaling_denied"
