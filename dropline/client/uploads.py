"""The upload of a large file to a session of Cloud Storage, part by part. No I/O, no sleep."""

from collections.abc import Iterator

from dropline.client.answers import received_bytes
from dropline.client.content import Content
from dropline.client.errors import ServiceTimeout
from dropline.client.repetition import answered, pauses, tried
from dropline.client.steps import Call, Flow, Pause
from dropline.deadline import Deadline
from dropline.errors import ClientError

#: Bytes of one part; Cloud Storage requires a multiple of 256 KiB.
PART_BYTES = 8 * 2**20
_SILENCE_S = 60.0


def upload(address: str, content: Content, size: int, deadline: Deadline) -> Flow[None]:
    """Send the content to the session at `address`.

    Raises:
        ClientError: the file has another size than before.
        ServiceError: Cloud Storage refused, takes no further byte, or the deadline has passed.
        OSError: the file cannot be read.
    """
    offset, left = 0, pauses()
    while True:
        part = yield from content.part(offset, PART_BYTES)
        if part.size != size:
            raise ClientError(f"{content.name} was changed during its upload")
        reached = yield from _sent(address, part.data, offset, size, deadline)
        if reached is None:
            return
        if reached > offset:
            left = pauses()
        else:
            yield Pause(_next_pause(left))
        if not deadline.remaining_s():
            raise ServiceTimeout(f"only {reached} of {size} bytes were uploaded within the timeout")
        offset = reached


def _next_pause(left: Iterator[float]) -> float:
    pause = next(left, None)
    if pause is None:
        raise ServiceTimeout("Cloud Storage takes no further byte of the upload; try again later")
    return pause


def _sent(address: str, data: bytes, offset: int, size: int, deadline: Deadline) -> Flow[int | None]:
    """Send one part; the number of bytes that Cloud Storage has, or None if the object is complete.

    After a failure Cloud Storage is asked for the number: a part may have arrived without its answer.
    """
    last = offset + len(data) - 1
    # The session's address is the credential; the token is for the service alone.
    headers = {"content-range": f"bytes {offset}-{last}/{size}"}
    call = Call("PUT", address, headers, content=data, silence_s=_SILENCE_S)
    outcome = yield from tried(call)
    if outcome.failure is None:
        return received_bytes(outcome.required())
    query = Call("PUT", address, {"content-range": f"bytes */{size}"}, content=b"")
    return received_bytes((yield from answered(query, deadline)))
