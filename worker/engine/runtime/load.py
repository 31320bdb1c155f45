"""Which model an engine serves."""

from dropline.settings import EngineSettings
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.model import Model
from worker.engine.runtime.stub import StubModel


def load_model(settings: EngineSettings) -> Model:
    """The model that the settings name.

    Raises:
        SettingsError: checkpoint, revision, device or dtype cannot be used.
        EngineUnavailable: the checkpoint cannot be fetched.
    """
    if settings.stub:
        return StubModel()
    # Found first: importing torch takes seconds, and a missing checkpoint can be told at once.
    checkpoint = find_checkpoint(settings)
    from worker.engine.runtime.florence import load_florence

    return load_florence(settings, checkpoint)
