"""Decodes a file of the corpus with the real decoder, and compares the result with the right one."""

from dropline.errors import PermanentError
from dropline.images.decoding import decode
from dropline.settings import ImageSettings
from tests.corpus.expected import SIDE, Case, Refused, Shown, difference


def fault(case: Case, data: bytes, limits: ImageSettings) -> str:
    """The difference between the decoder's result and the right result, in words; empty if the results agree."""
    try:
        decoded = decode(data, SIDE, limits)
    except PermanentError as error:
        return _fault_of_refusal(error, case.right)
    if isinstance(case.right, Refused):
        return f"decoded, but {case.right.code} with {case.right.words!r} is right"
    size = (decoded.dimensions.width, decoded.dimensions.height)
    return difference(decoded.pixels, size, case.right)


def _fault_of_refusal(error: PermanentError, right: Shown | Refused) -> str:
    if isinstance(right, Shown):
        return f"{error.code}: {error}, but the scene {right.scene!r} is right"
    if error.code == right.code and right.words.lower() in str(error).lower():
        return ""
    return f"{error.code}: {error}, but {right.code} with {right.words!r} is right"
