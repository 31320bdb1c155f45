"""What must be true when everything has come to rest. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.plan import Content, Upload

#: What a poisoned object's row must say.
_CODES = {Content.WORDS: "not_an_image", Content.DEADLY: "engine_lost"}
#: Why the image of an innocent may have been set aside: whoever worked on it was killed three times.
_KILLED = ("worker_lost", "engine_lost")


@dataclass(frozen=True)
class Aftermath:
    """What was found."""

    #: Generation → what was uploaded as it, in the order of the uploads.
    uploads: Mapping[int, Upload]
    rows: Sequence[Mapping[str, Any]]
    #: Object name → its metadata.
    metadata: Mapping[str, Mapping[str, str]]
    #: Row ids of the messages left on the broker.
    messages: Sequence[int]
    #: Messages that killed workers had taken: Redis keeps them until a recovery past the visibility timeout.
    unacknowledged: int
    #: Labels of all images the model ran on.
    inferences: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """What is wrong, and what is worth knowing."""

    faults: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def judge(found: Aftermath, lost_attempts: int) -> Verdict:
    """Compare what was found with what was done.

    Args:
        lost_attempts: after how many an image is set aside.
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
        wrong = _faults(upload, rows[generation], metadata, lost_attempts)
        faults += [f"{upload.name}#{generation} ({upload.content}, {upload.caption}): {fault}" for fault in wrong]
    faults += _broker_faults(found)
    return Verdict(faults, _counts(found))


def _faults(
    upload: Upload, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None, lost_attempts: int
) -> Iterator[str]:
    """What is wrong with one version; `metadata` is None where a newer one has taken its place."""
    if len(rows) != 1:
        yield f"{len(rows)} rows instead of 1"
        return
    row = rows[0]
    if row["lease_until"] is not None:
        yield f"{row['status']}, and still leased"
    if metadata is None and row["status"] in ("superseded", "deleted"):
        return
    if _set_aside(row, lost_attempts):
        return
    wanted = _wanted(upload)
    if (row["status"], row["error_code"], row["caption"]) != wanted:
        yield f"{row['status']}, {row['error_code']}, caption {row['caption']!r}"
    if metadata is not None and metadata.get("caption") != wanted[2]:
        yield f"its metadata is {dict(metadata)}"


def _wanted(upload: Upload) -> tuple[str, str | None, str | None]:
    """Status, error code and caption."""
    if upload.content is Content.IMAGE:
        return "captioned", None, upload.caption
    return "failed", _CODES[upload.content], None


def _set_aside(row: Mapping[str, Any], lost_attempts: int) -> bool:
    return row["status"] == "failed" and row["error_code"] in _KILLED and row["lost_attempts"] >= lost_attempts


def _broker_faults(found: Aftermath) -> Iterator[str]:
    unfinished = {row["id"] for row in found.rows if row["status"] in ("queued", "running")}
    if unfinished:
        yield f"rows {sorted(unfinished)} are unfinished; on the broker: {sorted(found.messages)}"


def _counts(found: Aftermath) -> dict[str, int]:
    statuses = Counter(row["status"] for row in found.rows)
    innocent = {generation for generation, upload in found.uploads.items() if upload.content is Content.IMAGE}
    runs = Counter(found.inferences)
    for upload in found.uploads.values():
        if upload.content is Content.DEADLY:
            runs.pop(upload.caption, None)
    return {
        "objects": len({upload.name for upload in found.uploads.values()}),
        "versions": len(found.uploads),
        **{f"rows {status}": number for status, number in sorted(statuses.items())},
        "innocent images set aside": sum(
            row["error_code"] in _KILLED and row["generation"] in innocent for row in found.rows
        ),
        "inferences of innocent images": runs.total(),
        "inferences more than one an image": runs.total() - len(runs),
        "messages left of finished rows": len(found.messages),
        "messages that killed workers had taken": found.unacknowledged,
    }
