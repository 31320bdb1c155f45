"""The parts of a running gallery that its routes share."""

from dataclasses import dataclass

from db.session import Database
from dropline.settings import Settings
from gallery.access import Access
from gallery.copies import Copies
from gallery.hub import ChangeHub
from operations.submit import Rows, Submissions


@dataclass(frozen=True, slots=True)
class Resources:
    """Built by the composition root (`gallery.server`), or by a test."""

    settings: Settings
    access: Access
    #: Postgres as dropline_reader.
    reader: Database
    #: Copies of images for pages.
    copies: Copies
    #: Postgres as dropline_gallery, the queue and the worker pool.
    rows: Rows
    submissions: Submissions
    #: The listening connection.
    hub: ChangeHub
