"""Listings of a bucket: pages of live objects with the facts that a row needs, in the order of their names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dropline.contract import ObjectFacts, ObjectVersion
from dropline.object_metadata import own_caption, seen_metadata
from dropline.selection import task_of_metadata
from dropline.storage.bucket import Storage
from dropline.storage.name_globs import is_glob
from dropline.storage.name_ranges import NameRange

if TYPE_CHECKING:
    from google.cloud.storage import Blob

#: Objects in one page, the most of Cloud Storage: one page is one operation of class A.
PAGE = 1000
_FIELDS = (
    "items(name,generation,metageneration,size,contentType,md5Hash,crc32c,metadata,storageClass,timeCreated),"
    "nextPageToken"
)
_PERMISSION = "storage.objects.list"
#: Seconds for connecting, and for the bytes of a page.
_TIMEOUT_S = (5.0, 60.0)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """The live version of an object, as a listing has it."""

    version: ObjectVersion
    facts: ObjectFacts
    #: Unparsed `caption-task` of the metadata; None without one.
    task: str | None = None
    #: Custom metadata; untrusted.
    metadata: Mapping[str, str] | None = None
    #: For example `STANDARD`; None: unknown.
    storage_class: str | None = None
    created_at: datetime | None = None


class Listing(Storage):
    """Listings of the buckets that the user's credentials, or an emulator, can reach. Threads may share it.

    The emulator knows neither `matchGlob` nor `fields`: whoever gives a glob compares the names too.
    """

    def pages(self, bucket: str, names: NameRange, pattern: str = "") -> Iterator[list[ListedObject]]:
        """The objects of a range of names that have not been read, in pages.

        Args:
            bucket: to list.
            names: where the listing begins and ends.
            pattern: a glob or a prefix; the server leaves out other names where it can.

        Raises:
            ObjectMissing: there is no such bucket.
            AccessDenied, StorageUnavailable, ClientError.
        """
        found = self._list(bucket, names, pattern, PAGE, _FIELDS)
        # A page that cannot be had is an error of the request, not of the one who reads the pages.
        pages = iter(found.pages)
        while True:
            with self._named_errors(f"gs://{bucket}", _PERMISSION, missing=f"gs://{bucket}"):
                page = next(pages, None)
                objects = None if page is None else [_listed(bucket, blob) for blob in page]
            if objects is None:
                return
            yield [each for each in objects if names.after is None or each.version.name > names.after]

    def names_from(self, bucket: str, start: str, end: str | None) -> list[str]:
        """The first two names from `start` on, before `end`; raises as `pages`."""
        with self._named_errors(f"gs://{bucket}", _PERMISSION, missing=f"gs://{bucket}"):
            found = self._list(bucket, NameRange(start, end), "", 2, "items(name),nextPageToken", most=2)
            return [blob.name for blob in found]

    def find(self, bucket: str, name: str) -> ListedObject | None:
        """The live version of one object; None if there is none. One operation of class B.

        Raises:
            AccessDenied, StorageUnavailable, ClientError.
        """
        uri = f"gs://{bucket}/{name}"
        with self._named_errors(uri, "storage.objects.get", missing=uri):
            blob = self._client.bucket(bucket).get_blob(name, retry=self._retry(), timeout=_TIMEOUT_S)
            return None if blob is None else _listed(bucket, blob)

    def has_generation(self, version: ObjectVersion) -> bool:
        """Whether the bucket has exactly this generation, live or noncurrent; raises as `find`."""
        with self._named_errors(version.uri, "storage.objects.get", missing=version.uri):
            blob = self._client.bucket(version.bucket).get_blob(
                version.name, generation=version.generation, retry=self._retry(), timeout=_TIMEOUT_S
            )
        return blob is not None

    def _list(self, bucket: str, names: NameRange, pattern: str, page: int, fields: str, **options: Any) -> Any:
        return self._client.list_blobs(
            bucket,
            # The offsets say it too; the emulator reads the files of all names that have the prefix.
            prefix=names.prefix or None,
            start_offset=names.offset or None,
            end_offset=names.end,
            match_glob=pattern if is_glob(pattern) else None,
            page_size=page,
            max_results=options.get("most"),
            fields=fields,
            retry=self._retry(),
            timeout=_TIMEOUT_S,
        )


def _listed(bucket: str, blob: "Blob") -> ListedObject:
    metadata = blob.metadata or {}
    facts = ObjectFacts(
        blob.content_type or "",
        blob.size,
        blob.md5_hash,
        blob.crc32c,
        metadata=seen_metadata(blob.metageneration, blob.metadata),
        own_caption=own_caption(metadata),
    )
    return ListedObject(
        ObjectVersion(bucket, blob.name, int(blob.generation)),
        facts,
        task_of_metadata(metadata),
        metadata,
        blob.storage_class,
        blob.time_created,
    )
