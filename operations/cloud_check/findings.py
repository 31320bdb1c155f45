"""The results of the check."""

import enum
from dataclasses import dataclass

from operations.cloud_check.needs import NEAR_TASKS_REGION, TASKS_LOCATIONS


class Level(enum.StrEnum):
    """The weight of a finding."""

    #: No action is needed.
    OK = "ok"
    #: A later command of the deployment takes the action.
    LATER = "later"
    #: A possible fault, or a part that could not be checked.
    WARNING = "warning"
    #: The deployment would fail.
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of the check."""

    level: Level
    #: The part of the check: `project`, `billing`, `services`, `rights`, `quota`, `region`, `tasks`, `names` or
    #: `policies`.
    part: str
    text: str
    #: Shell commands that mend the fault; may be empty.
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The planned deployment."""

    project: str
    region: str
    #: Terraform's variable `name`.
    name: str = "dropline"
    #: GPUs of the worker pool; 0: a trial on CPUs.
    gpus: int = 1
    #: Bucket of Terraform's state; empty: PROJECT-tfstate.
    state_bucket: str = ""
    #: Terraform's variable `tasks_region`; empty: null.
    tasks_region: str = ""

    @property
    def state(self) -> str:
        """The bucket of Terraform's state."""
        return self.state_bucket or self._default_state

    @property
    def names_state(self) -> bool:
        """True if the caller has named the bucket of the state, which may then belong to another project."""
        return self.state != self._default_state

    @property
    def _default_state(self) -> str:
        return f"{self.project}-tfstate"

    @property
    def builds(self) -> str:
        """The bucket that `make images` makes for the sources of the builds."""
        return f"{self.project}-dropline-builds"

    @property
    def drops(self) -> str:
        """The bucket that Terraform makes for images."""
        return f"{self.project}-{self.name}-drops"

    @property
    def queue_region(self) -> str:
        """The region of the queue of Cloud Tasks, as Terraform's module `worker` chooses it."""
        return self.tasks_region or NEAR_TASKS_REGION.get(self.region, self.region)

    @property
    def locations(self) -> tuple[str, ...]:
        """The locations of resources: the region, and those of the queue."""
        queue = TASKS_LOCATIONS.get(self.queue_region, (self.queue_region,))
        return tuple(dict.fromkeys((self.region, *queue)))
