"""Makes the token of a new gallery: `python -m gallery.first_token DIRECTORY`, service `token` of compose.yaml.

The directory gets the file `token`, readable by its owner alone, and the file `tokens` for
DROPLINE_GALLERY__TOKENS_FILE. The first start prints the token; a later start changes no file.
"""

import os
import secrets
import sys
from pathlib import Path

from gallery.access import ALL_SCOPES, TokenEntry, digest_of


def make_first_token(directory: Path) -> str | None:
    """The new token; None if the directory has one already."""
    entries, shown = directory / "tokens", directory / "token"
    if entries.exists():
        return None
    token = secrets.token_urlsafe(32)
    _write_private(shown, f"{token}\n")
    # Last: a start that was interrupted before makes another token.
    _write_private(entries, f"{TokenEntry('first', ALL_SCOPES, digest_of(token))}\n")
    return token


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(text)
    unfinished.rename(path)


def main() -> None:
    """Make the token in the directory of the command line, and print a new token."""
    directory = Path(sys.argv[1])
    token = make_first_token(directory)
    if token is None:
        sys.stdout.write(f"The gallery's token is in {directory / 'token'}\n")
    else:
        sys.stdout.write(f"The gallery's token, also in {directory / 'token'}: {token}\n")


if __name__ == "__main__":
    main()
