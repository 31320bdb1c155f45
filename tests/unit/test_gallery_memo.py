"""Values that are read again after a time."""

import pytest

from gallery.memo import Memo


def test_a_value_is_kept_for_its_age() -> None:
    """Then it is read again; an error is not kept."""
    now = 0.0
    values = [1, 2]
    memo = Memo(lambda: values.pop(0), 10, lambda: now)
    assert (memo.get(), memo.get()) == (1, 1)
    now = 10.0
    assert memo.get() == 2
    now = 20.0
    with pytest.raises(IndexError):
        memo.get()
    values.append(3)
    assert memo.get() == 3
