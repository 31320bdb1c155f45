"""`dropline gallery`: serve the web service, or make one of its tokens."""

import enum
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_json, print_line, print_note
from cli.options import Json
from dropline.errors import ClientError
from dropline.settings import load_settings
from gallery.access import Scope, TokenEntry, digest_of
from gallery.server import main


class Action(enum.StrEnum):
    """The two uses of the command."""

    SERVE = "serve"
    TOKEN = "token"  # noqa: S105 - the name of an action


def gallery(
    action: Annotated[Action, typer.Argument(help="`serve`, or `token`: make a token.")] = Action.SERVE,
    name: Annotated[str, typer.Argument(help="Of the token: for whom, or for what.")] = "",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Scope of the token; may be given several times. Default: `read`.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="File that gets the entry of the token. Default: `DROPLINE_GALLERY__TOKENS_FILE`."),
    ] = None,
    json: Json = False,
) -> None:
    """Serve the page and the API until Ctrl-C; `dropline gallery token NAME` makes a token instead.

    The token is printed once. Its entry, with the SHA-256 in place of the token, goes into the file, or is printed
    for DROPLINE_GALLERY__TOKENS. A gallery reads both when it starts.
    """
    if action is Action.SERVE:
        if name or scope or file:
            raise ClientError("a name, --scope and --file belong to `dropline gallery token`")
        _serve()
    else:
        _make_token(name, frozenset(scope or [Scope.READ]), file, as_json=json)


def _serve() -> None:
    if code := main():
        raise typer.Exit(code)


def _make_token(name: str, scopes: frozenset[Scope], file: Path | None, *, as_json: bool) -> None:
    token = secrets.token_urlsafe(32)
    if not name:
        raise ClientError("give the token a name: `dropline gallery token NAME`")
    entry = str(TokenEntry.named(name, scopes, digest_of(token)))
    target = file or (Path(path) if (path := load_settings().gallery.tokens_file) else None)
    if target is not None:
        _append(target, entry)
        print_note(f"the entry is in {target}; a gallery that runs reads it at its next start")
    if as_json:
        print_json({"token": token, "entry": entry})
        return
    if target is None:
        print_note(f"add the entry to DROPLINE_GALLERY__TOKENS, a list in JSON: {entry}")
    print_line(token)


def _append(file: Path, entry: str) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            before = stream.readall()
            # An editor may have left the last line without an end.
            start = b"\n" if before and not before.endswith(b"\n") else b""
            stream.write(start + f"{entry}\n".encode())
    except OSError as error:
        raise ClientError(f"the file {file} cannot be written: {error.strerror}") from None
