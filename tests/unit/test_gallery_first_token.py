"""The token of a new gallery in a container."""

from pathlib import Path

from dropline.settings import GallerySettings
from gallery.access import ALL_SCOPES
from gallery.first_token import make_first_token
from gallery.server import access_from


def test_the_first_start_makes_a_token_that_later_starts_keep(tmp_path: Path) -> None:
    """The token has all scopes by the file for the settings, which has no token itself; both files are private."""
    token = make_first_token(tmp_path)
    assert token
    access = access_from(GallerySettings(host="0.0.0.0", tokens_file=str(tmp_path / "tokens")))
    assert access.owner_of(token).scopes == ALL_SCOPES
    assert (tmp_path / "token").read_text() == f"{token}\n"
    assert token not in (tmp_path / "tokens").read_text()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    before = (tmp_path / "tokens").read_text()
    assert make_first_token(tmp_path) is None
    assert (tmp_path / "tokens").read_text() == before
