"""How the demo model is trained: three stages, each with its own schedule."""

from dataclasses import dataclass

BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Stage:
    """What is trained, for how many steps, up to which learning rate, on the scenes of which seed."""

    name: str
    steps: int
    #: The steps over which the learning rate rises and falls: more than `steps` where a later stage goes on.
    horizon: int
    rate: float
    seed: int
    vision: bool
    language: bool
    #: Weight of the dense head's loss beside the losses of the texts; 0 leaves the head out.
    dense_weight: float


STAGES = (
    # The tower learns to see in minutes when every cell is told what it should have seen.
    Stage("vision", steps=1500, horizon=3000, rate=2e-3, seed=101, vision=True, language=False, dense_weight=1.0),
    # The language model learns to tell from a tower that already sees, and that needs no backward pass.
    Stage("language", steps=600, horizon=600, rate=1e-3, seed=202, vision=False, language=True, dense_weight=0.0),
    Stage("joint", steps=900, horizon=900, rate=1e-3, seed=303, vision=True, language=True, dense_weight=0.3),
)
