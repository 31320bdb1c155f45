"""A change of `terraform/` that breaks a policy."""

from dataclasses import dataclass
from pathlib import Path

from tests.terraform.workspace import Policy


@dataclass(frozen=True)
class Mutation:
    """A text in a file, and the replacement."""

    policy: Policy
    #: Path below `modules/`; a path without a directory is a file of the root.
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (f"{text.split()[0]}" if text.strip() else "nothing" for text in (self.old, self.new))
        return f"{self.policy.__name__}-{new}-for-{old}"

    def apply(self, sources: Path) -> None:
        """Change the copy; a text that does not occur exactly once is an error of the mutation."""
        path = sources / ("modules/" + self.file if "/" in self.file else self.file)
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times; correct the mutation")
        path.write_text(text.replace(self.old, self.new))
