"""What the check reports."""

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How much a finding matters."""

    #: Nothing to do.
    OK = "ok"
    #: A later command of the deployment does it.
    LATER = "later"
    #: It may be wrong, or it could not be checked.
    WARNING = "warning"
    #: The deployment would fail.
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the check."""

    level: Level
    #: The part of the check: `project`, `billing`, `services`, `rights`, `quota`, `region`, `names` or `policies`.
    part: str
    text: str
    #: Commands for a shell that mend it; empty where there is nothing to mend, or no command.
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The deployment that is to be checked."""

    project: str
    region: str
    #: Terraform's variable `name`.
    name: str = "dropline"
    #: GPUs of the worker pool; 0: a trial on CPUs.
    gpus: int = 1
    #: Bucket of Terraform's state; empty: PROJECT-tfstate.
    state_bucket: str = ""

    @property
    def state(self) -> str:
        """The bucket of Terraform's state."""
        return self.state_bucket or f"{self.project}-tfstate"

    @property
    def drops(self) -> str:
        """The bucket that Terraform makes for images."""
        return f"{self.project}-{self.name}-drops"
