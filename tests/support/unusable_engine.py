"""An engine whose checkpoint cannot be used."""

from typing import NoReturn

from dropline.errors import SettingsError
from dropline.settings import EngineSettings
from worker.engine.runtime.main import main


def _load(_settings: EngineSettings) -> NoReturn:
    raise SettingsError("torch finds 0 CUDA devices")


if __name__ == "__main__":
    main(_load)
