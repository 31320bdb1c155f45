"""Copies of the images of object versions: made at first view, then read from the disk cache.

The original is downloaded with the credentials of this process. Its bytes are decoded by a decoder process without
credentials (`dropline.images.decoder`).
"""

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import LifoQueue
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Protocol

from dropline.contract import ObjectVersion
from dropline.errors import DroplineError, ImageRefused, InvalidImage, ObjectGone, SettingsError
from dropline.images.decoder import DecoderProcess
from dropline.images.renditions import Rendition, render
from dropline.log import get_logger
from dropline.settings import Settings
from dropline.storage.objects import ObjectStore, make_store
from gallery.disk_cache import DiskCache
from gallery.threads import in_thread


class Originals(Protocol):
    """The uploaded objects."""

    def download(self, version: ObjectVersion) -> bytes:
        """The bytes of an object version; raises ObjectGone, PermanentError or TransientError."""

    def exists(self, version: ObjectVersion) -> bool:
        """Whether the bucket has the object version; raises AccessDenied, PermanentError or TransientError."""


log = get_logger(__name__)

#: Images that are downloaded and decoded at a time.
DECODERS = 2

#: Seconds for connecting to Cloud Storage, and between received bytes: a person waits.
_TIMEOUT_S = (3.0, 5.0)
#: The same for the question whether an object is there: the page is served without an answer too.
_EXISTS_TIMEOUT_S = (1.0, 2.0)
#: Errors that every further attempt would give again.
_LASTING = (ObjectGone, InvalidImage, ImageRefused)
#: Remembered lasting errors: a hostile image costs a single decoding, not a decoding for each view.
_MAX_REMEMBERED = 10_000


class Copies:
    """The copies of all images. Threads may share the object; processes may not."""

    def __init__(self, originals: Originals, cache: DiskCache, decoders: list[DecoderProcess]) -> None:
        """Start no decoder process yet.

        Args:
            originals: the uploaded objects.
            cache: of finished copies.
            decoders: as many images are downloaded and decoded at a time.
        """
        self._originals = originals
        self._cache = cache
        self._decoders = decoders
        self._free: LifoQueue[DecoderProcess] = LifoQueue()
        for decoder in decoders:
            self._free.put(decoder)
        self._threads = ThreadPoolExecutor(len(decoders), thread_name_prefix="copies")
        self._lock = Lock()
        self._running: dict[str, Future[bytes]] = {}
        self._errors: OrderedDict[str, Exception] = OrderedDict()

    async def get(self, version: ObjectVersion, rendition: Rendition) -> bytes:
        """The copy as a WebP file. Simultaneous calls for a copy share the decoding.

        Raises:
            ObjectGone: the object version is no longer in the bucket, and no copy is in the cache.
            PermanentError: the image cannot be decoded, or the credentials lack a right.
            TransientError: a later call may succeed.
            Overloaded: too many requests wait for a thread.
        """
        key = _key(version, rendition)
        data = await in_thread(lambda: self._cache.get(key))
        if data is not None:
            return data
        # A caller that goes away must not cancel the copy of the other callers.
        return await asyncio.shield(asyncio.wrap_future(self._future(key, version, rendition)))

    async def original(self, version: ObjectVersion) -> bytes:
        """The uploaded bytes of the object version. Raises the errors of the download."""
        return await asyncio.wrap_future(self._threads.submit(self._originals.download, version))

    def is_gone(self, version: ObjectVersion) -> bool:
        """Whether the object version is no longer in the bucket; False without an answer of Cloud Storage."""
        with self._lock:
            if isinstance(self._errors.get(version.uri), ObjectGone):
                return True
        try:
            return not self._originals.exists(version)
        except DroplineError as error:
            log.warning("existence_unknown", code=error.code, error=str(error), object=version.uri)
            return False

    def is_cached(self, version: ObjectVersion, rendition: Rendition) -> bool:
        """Whether the copy needs no original any more."""
        return self._cache.get(_key(version, rendition)) is not None

    def close(self) -> None:
        """End the decoder processes, after the images that are being decoded."""
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    def _future(self, key: str, version: ObjectVersion, rendition: Rendition) -> Future[bytes]:
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = self._running[key] = self._threads.submit(self._make, key, version, rendition)
        return future

    def _make(self, key: str, version: ObjectVersion, rendition: Rendition) -> bytes:
        try:
            self._raise_remembered(version)
            # Another call may have made the copy since the first look.
            data = self._cache.get(key) or self._render(version, rendition)
        except _LASTING as error:
            self._remember(version, copy.copy(error))
            raise
        else:
            self._cache.put(key, data)
            return data
        finally:
            with self._lock:
                del self._running[key]

    def _render(self, version: ObjectVersion, rendition: Rendition) -> bytes:
        original = self._originals.download(version)
        with self._decoder() as decoder:
            return render(decoder, original, rendition)

    @contextmanager
    def _decoder(self) -> Iterator[DecoderProcess]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)

    def _raise_remembered(self, version: ObjectVersion) -> None:
        with self._lock:
            error = self._errors.get(version.uri)
        if error is not None:
            raise copy.copy(error)  # each raise adds to the traceback of an object

    def _remember(self, version: ObjectVersion, error: Exception) -> None:
        with self._lock:
            self._errors[version.uri] = error
            if len(self._errors) > _MAX_REMEMBERED:
                self._errors.popitem(last=False)


def _key(version: ObjectVersion, rendition: Rendition) -> str:
    return f"{rendition} {version.uri}"


@contextmanager
def open_copies(settings: Settings) -> Iterator[Copies]:
    """The copies, from Cloud Storage. The store and the decoder processes are made at first use.

    Raises:
        SettingsError: the directory of the cache cannot be used.
    """
    with ExitStack() as stack:
        directory = settings.gallery.cache_directory or stack.enter_context(TemporaryDirectory(prefix="dropline-"))
        try:
            cache = DiskCache(Path(directory), settings.gallery.cache_bytes)
        except OSError as error:
            raise SettingsError(f"DROPLINE_GALLERY__CACHE_DIRECTORY cannot be used: {error}") from error
        decoders = [DecoderProcess(settings.images) for _ in range(DECODERS)]
        copies = Copies(_StoredOriginals(settings), cache, decoders)
        stack.callback(copies.close)
        yield copies


class _StoredOriginals:
    """The objects in Cloud Storage; connects at first use: a page without images needs no credentials."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._store: ObjectStore | None = None

    def download(self, version: ObjectVersion) -> bytes:
        """The bytes of an object version; raises the errors of `ObjectStore.download`."""
        return self._connected().download(version, self._settings.events.max_size_bytes).data

    def exists(self, version: ObjectVersion) -> bool:
        """See `ObjectStore.exists`."""
        return self._connected().exists(version, _EXISTS_TIMEOUT_S)

    def _connected(self) -> ObjectStore:
        with self._lock:
            self._store = self._store or make_store(self._settings, _TIMEOUT_S)
        return self._store
