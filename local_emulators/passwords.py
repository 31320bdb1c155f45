"""The passwords of one stack directory: made once, kept beside the data they protect."""

import json
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Passwords:
    """Random, different for every stack directory, and free of characters that a URL would have to escape."""

    postgres: str
    redis: str
    deploy: str
    ingest: str
    worker: str
    reader: str

    @classmethod
    def load_or_make(cls, path: Path) -> Self:
        """Reads the file, or makes it, readable by its owner alone."""
        if path.exists():
            return cls(**json.loads(path.read_text()))
        made = cls(*(secrets.token_hex(16) for _ in fields(cls)))
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(made), indent=2) + "\n")
        return made
