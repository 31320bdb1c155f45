"""What passes between the worker's parent and the engine's process when it starts: one line of JSON each way."""

from pydantic import BaseModel, ConfigDict

from dropline.settings import EngineSettings, LogSettings


class Boot(BaseModel):
    """The first line on the engine's standard input, which then stays open for as long as the parent lives."""

    model_config = ConfigDict(frozen=True)

    settings: EngineSettings
    log: LogSettings
    #: Descriptor of the listening socket. The parent keeps it open, so that whoever connects meanwhile waits.
    listener_fd: int
    #: What clients prove to know, in hexadecimal.
    authkey: str
    #: Descriptor of the pipe that takes the `Report`.
    ready_fd: int
    #: Descriptor that is only held: its closing tells the parent of the engine's death.
    sentinel_fd: int


class Report(BaseModel):
    """The engine serves, or why it cannot."""

    model_config = ConfigDict(frozen=True)

    #: One sentence for people; empty when the engine serves.
    error: str = ""
    #: Whether only a change of settings can help.
    permanent: bool = False
