"""The parts of a running gallery that its routes share."""

from dataclasses import dataclass

from db.session import Database
from dropline.settings import Settings
from gallery.access import Access
from gallery.copies import Copies


@dataclass(frozen=True, slots=True)
class Resources:
    """Built by the composition root (`gallery.server`), or by a test."""

    settings: Settings
    access: Access
    #: Postgres as dropline_reader.
    reader: Database
    #: Copies of images for pages.
    copies: Copies
