"""The conditions on a stack at rest, as pure functions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.plan import Content, Upload

#: Error codes allowed at the end. A fault of the plan may kill the engine before the deadly image does.
_CODES: dict[Content, tuple[str | None, ...]] = {
    Content.IMAGE: (None,),
    Content.WORDS: ("not_an_image",),
    Content.DEADLY: ("engine_lost", "worker_lost"),
}


_REPEATED = "inferences beyond one an image"


@dataclass(frozen=True)
class Aftermath:
    """The state of the stack after a run."""

    #: Generation → upload, in the order of the uploads.
    uploads: Mapping[int, Upload]
    rows: Sequence[Mapping[str, Any]]
    #: Object name → metadata of the object.
    metadata: Mapping[str, Mapping[str, str]]
    #: Row ids of the messages left on the broker.
    messages: Sequence[int]
    #: Messages taken by killed workers: Redis keeps each until a recovery past the visibility timeout.
    unacknowledged: int
    #: Labels of all images that the model captioned, with repetitions.
    inferences: Sequence[str]
    #: Inferences that ended with an engine that one of their images killed.
    lost_with_engines: int = 0
    #: Times that the worker pool scaled to zero.
    sleeps: int = 0


@dataclass(frozen=True)
class Verdict:
    """The faults found, and the counts for the report."""

    faults: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def judge(found: Aftermath, most_repeated: int) -> Verdict:
    """Compare the state after a run with the uploads.

    Args:
        found: the state after the run.
        most_repeated: the largest number of repeated inferences due to the deaths of the run.
    """
    rows: dict[int, list[Mapping[str, Any]]] = {generation: [] for generation in found.uploads}
    faults = []
    for row in found.rows:
        if row["generation"] in rows:
            rows[row["generation"]].append(row)
        else:
            faults.append(f"a row of nothing that was uploaded: {dict(row)}")
    latest = {upload.name: generation for generation, upload in found.uploads.items()}
    for generation, upload in found.uploads.items():
        current = latest[upload.name] == generation
        metadata = found.metadata.get(upload.name, {}) if current else None
        wrong = _faults(upload, rows[generation], metadata)
        faults += [f"{upload.name}#{generation} ({upload.content}, {upload.caption}): {fault}" for fault in wrong]
    faults += _unfinished(found)
    counts = _counts(found)
    if counts[_REPEATED] > most_repeated:
        faults.append(f"{counts[_REPEATED]} {_REPEATED}; the deaths explain {most_repeated} at most")
    return Verdict(faults, counts)


def _faults(
    upload: Upload, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None
) -> Iterator[str]:
    """The faults of an object version; `metadata` is None where a newer version has replaced the version."""
    if len(rows) != 1:
        yield f"{len(rows)} rows instead of 1"
        return
    row = rows[0]
    caption = upload.caption if upload.content is Content.IMAGE else None
    if row["lease_until"] is not None:
        yield f"{row['status']}, and still leased"
    if metadata is not None and metadata.get("caption") != caption:
        yield f"its metadata is {dict(metadata)}"
    if metadata is None and row["status"] in ("superseded", "deleted"):
        return
    codes = _CODES[upload.content]
    if metadata is None and caption:
        codes = (*codes, "object_gone")  # captioned in time, and overwritten before the write-back
    status = "captioned" if caption else "failed"
    if (row["status"], row["caption"]) != (status, caption) or row["error_code"] not in codes:
        yield f"{row['status']}, {row['error_code']}, caption {row['caption']!r}"


def _unfinished(found: Aftermath) -> Iterator[str]:
    unfinished = {row["id"] for row in found.rows if row["status"] in ("queued", "running")}
    if unfinished:
        yield f"rows {sorted(unfinished)} are unfinished; on the broker: {sorted(found.messages)}"


def _counts(found: Aftermath) -> dict[str, int]:
    statuses = Counter(row["status"] for row in found.rows)
    runs = Counter(found.inferences)
    for upload in found.uploads.values():
        if upload.content is Content.DEADLY:
            runs.pop(upload.caption, None)
    return {
        "objects": len({upload.name for upload in found.uploads.values()}),
        "versions": len(found.uploads),
        **{f"rows {status}": number for status, number in sorted(statuses.items())},
        "inferences": runs.total(),
        _REPEATED: runs.total() - len(runs),
        "inferences lost with an engine that an image killed": found.lost_with_engines,
        "times that the worker pool slept": found.sleeps,
        "messages left of finished rows": len(found.messages),
        "messages that killed workers had taken": found.unacknowledged,
    }
