"""The public id of a caption: an opaque text made of bucket, object name, generation and task. Pure.

The id exists before its row does, and is the same for each request of the same caption. The text is base64url
without padding, so that the id is one segment of a URL's path and needs no escapes. The bytes inside, in order:

    version of the encoding     1 byte, 1
    generation                  8 bytes, big-endian
    length of the bucket        1 byte
    length of the object name   2 bytes, big-endian
    bucket, object name, task   UTF-8; the task as in `captions.task`, up to the end

The longest id has 2,391 characters: a bucket of 222 bytes, an object name of 1,024, and a task with a text of 500.
Common servers accept such a path: nginx and Apache have a limit of 8 KB, gunicorn 4,094 bytes, uvicorn 64 KB, and
Google's load balancers 15 KB. The id is no secret and no permission: a person who has the three names can make the
id.
"""

import base64
import re
import struct

from dropline.contract import MAX_PROMPT_TEXT, ObjectVersion, TaskPrompt, TaskRequest
from dropline.errors import InvalidCaptionId, InvalidTask

_VERSION = 1
_HEAD = struct.Struct(">BQBH")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_NAME_BYTES = 1024
_LAST_GENERATION = 2**63 - 1
_TASK_BYTES = max(map(len, TaskPrompt)) + MAX_PROMPT_TEXT
#: Length of the longest id, in characters.
MAX_LENGTH = -(-4 * (_HEAD.size + 222 + _NAME_BYTES + _TASK_BYTES) // 3)


def encode(version: ObjectVersion, task: TaskRequest) -> str:
    """The id of an object version's caption, for one task: 30 to 2,391 characters of `A-Z a-z 0-9 - _`.

    Raises:
        InvalidCaptionId: no object has such a name or generation, or Florence-2 has no such task.
    """
    _check(version, task)
    bucket, name = version.bucket.encode(), version.name.encode()
    head = _HEAD.pack(_VERSION, version.generation, len(bucket), len(name))
    return base64.urlsafe_b64encode(head + bucket + name + str(task).encode()).rstrip(b"=").decode()


def decode(text: str) -> tuple[ObjectVersion, TaskRequest]:
    """The object version and the task of an id. Only a text that `encode` returns is accepted.

    Raises:
        InvalidCaptionId: the text is not an id.
    """
    try:
        version, task = _unpack(_bytes(text))
    except (ValueError, struct.error, InvalidTask):
        raise _not_an_id(text) from None
    # Base64 and the parser of tasks accept several spellings: a caption has one id.
    if encode(version, task) != text:
        raise _not_an_id(text)
    return version, task


def _bytes(text: str) -> bytes:
    if len(text) > MAX_LENGTH:
        raise ValueError("longer than the longest id")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _unpack(data: bytes) -> tuple[ObjectVersion, TaskRequest]:
    _, generation, bucket_length, name_length = _HEAD.unpack_from(data)
    names = data[_HEAD.size :]
    name_end = bucket_length + name_length
    bucket, name = names[:bucket_length].decode(), names[bucket_length:name_end].decode()
    return ObjectVersion(bucket, name, generation), TaskRequest.parse(names[name_end:].decode())


def _check(version: ObjectVersion, task: TaskRequest) -> None:
    if not _BUCKET.fullmatch(version.bucket):
        raise InvalidCaptionId(f"{ascii(version.bucket)[:80]} is not the name of a bucket")
    if not 1 <= version.generation <= _LAST_GENERATION:
        raise InvalidCaptionId(f"{version.generation} is not a generation: a positive 64-bit number")
    if not _is_object_name(version.name):
        raise InvalidCaptionId(
            f"{ascii(version.name)[:80]} is not the name of an object: 1 to 1024 bytes of UTF-8"
        )
    if not _is_canonical(task):
        raise InvalidCaptionId(f"{ascii(str(task))[:80]} is not a task of Florence-2")


def _is_object_name(name: str) -> bool:
    """Whether the function accepts an object of this name."""
    length = len(name.encode(errors="replace"))
    return 1 <= length <= _NAME_BYTES and name not in {".", ".."} and not re.search(r"[\r\n\0\ud800-\udfff]", name)


def _is_canonical(task: TaskRequest) -> bool:
    try:
        return TaskRequest.parse(str(task)) == task
    except InvalidTask:
        return False


def _not_an_id(text: str) -> InvalidCaptionId:
    return InvalidCaptionId(
        f"{ascii(text)[:80]} is not the id of a caption: use an id of an answer of this service, unchanged"
    )
