"""The rules of the function, applied to objects of the bucket by the settings of this machine."""

from dataclasses import dataclass
from datetime import datetime

from dropline.contract import FilterReason, ObjectFacts, ObjectVersion
from dropline.errors import DroplineError
from dropline.selection import Selection
from dropline.settings import Settings
from dropline.storage.bucket import Storage
from dropline.storage.uploads import content_type


@dataclass(frozen=True, slots=True)
class ExpectedFilter:
    """The rule that filters an object version by the settings of this machine; the function may have others."""

    reason: FilterReason
    #: By the clock of Cloud Storage.
    created_at: datetime


class LocalRules:
    """The filters of this machine's settings.

    Raises:
        SettingsError: a glob cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._selection = Selection(settings.events)
        self._storage: Storage | None = None

    def expect(self, version: ObjectVersion) -> ExpectedFilter | None:
        """The rule that filters the version; None without a rule, or if Cloud Storage does not answer."""
        try:
            self._storage = self._storage or Storage.connect(self._settings)
            facts, created_at = self._storage.facts_of(version)
        except DroplineError:
            return None
        verdict = self._selection.filtered(version, facts)
        return None if verdict is None else ExpectedFilter(verdict.reason, created_at)

    def expect_upload(self, version: ObjectVersion) -> ExpectedFilter | None:
        """As `expect`, without a request for an upload that no rule filters by its name and usual content type."""
        usual = ObjectFacts(content_type(version.name) or "application/octet-stream")
        return None if self._selection.filtered(version, usual) is None else self.expect(version)
