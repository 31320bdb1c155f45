"""The formats of drawn pictures, by the suffix of the file. Without Pillow: a command checks a suffix first."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dropline.errors import ClientError

#: Pillow's name of the format, and its options.
FORMATS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        ".png": ("PNG", {}),
        ".jpg": ("JPEG", {"quality": 92, "subsampling": 0}),
        ".jpeg": ("JPEG", {"quality": 92, "subsampling": 0}),
        ".webp": ("WEBP", {"quality": 92, "method": 3}),
    }
)


def require_suffix(path: Path) -> str:
    """The suffix of a file that can be written, in lower case.

    Raises:
        ClientError: no format of a drawn picture has the suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ClientError(f"{str(path)!r} must end with {', '.join(FORMATS)}, for the format of the picture")
    return suffix
