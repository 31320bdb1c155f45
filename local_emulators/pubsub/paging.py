"""One page of a sorted list of names. Pure."""

from bisect import bisect_left
from collections.abc import Iterable

from google.api_core.exceptions import InvalidArgument

_LARGEST_PAGE = 1000


def page(all_names: Iterable[str], size: int, token: str) -> tuple[list[str], str]:
    """The names from `token` on, at most `size` (0: as many as fit), and the next page's token or "".

    A token is the first name of its page, so names that come or go between two calls do no harm.
    Raises InvalidArgument for a negative size.
    """
    if size < 0:
        raise InvalidArgument(f"page_size is {size}. Use 0 or more.")
    ordered = sorted(all_names)
    start = bisect_left(ordered, token)
    end = start + min(size or _LARGEST_PAGE, _LARGEST_PAGE)
    return ordered[start:end], ordered[end] if end < len(ordered) else ""
