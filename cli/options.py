"""Options and arguments that several commands share."""

from typing import Annotated

import typer

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
PortBase = Annotated[
    int,
    typer.Option(
        "--port-base", help="First of eight consecutive ports on 127.0.0.1; 0 takes free ones.", min=0, max=65528
    ),
]
