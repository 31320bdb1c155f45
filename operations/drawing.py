"""The picture of an answer: the captioned object version with the regions of the answer drawn on it."""

from dropline.contract import ObjectVersion
from dropline.settings import Settings


def draw(settings: Settings, version: ObjectVersion, result: object, suffix: str) -> bytes:
    """The picture as a file.

    Args:
        settings: with Cloud Storage, and the limits of images.
        version: the captioned object version, so that the regions fit.
        result: as in `captions.result`.
        suffix: as `dropline.images.picture_formats.require_suffix` returns it.

    Raises:
        ObjectGone: the generation was overwritten or deleted.
        PermanentError, TransientError, AccessDenied: the object cannot be downloaded or decoded.
    """
    # numpy and Pillow are slow to import, and most calls of `dropline caption` draw no picture.
    from dropline.images.annotate import annotate
    from dropline.images.decoder import DecoderProcess
    from dropline.storage.objects import make_store

    with make_store(settings) as store, DecoderProcess(settings.images) as decoder:
        content = store.download(version, settings.events.max_size_bytes)
        return annotate(decoder, content.data, result, suffix)
