"""Options and arguments that several commands share."""

import re
from typing import Annotated

import typer

from dropline.errors import ClientError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Longest wait, in seconds.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="`demo`, `base` (for photographs; downloaded at the first start), `stub` (no model), or a Florence-2 "
        "checkpoint: hub name or directory.",
    ),
]

_URI = re.compile(r"gs://(?P<bucket>[^/#]+)/(?P<name>.+?)(?:#(?P<generation>\d+))?", re.DOTALL)


def parse_uri(uri: str) -> tuple[str, str, int | None]:
    """Bucket, name and generation; `#` and digits at the end are the generation, as in gsutil.

    Raises:
        ClientError: not the URI of an object.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ClientError(
            f"{uri!r} is not the URI of an object; write gs://BUCKET/NAME or gs://BUCKET/NAME#GENERATION"
        )
    generation = match["generation"]
    return match["bucket"], match["name"], None if generation is None else int(generation)
