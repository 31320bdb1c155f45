"""Train the demo model from random weights, half an hour on two cores: `python -m tools.demo_model.train`."""

import argparse
import copy
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from transformers import Florence2Processor

from tools.demo_model.batches import Batch, load_batches
from tools.demo_model.build import build_processor
from tools.demo_model.evaluate import CHECKPOINT, evaluate, held_out_scenes
from tools.demo_model.trainee import STAGES, Stage, Trainee

log = logging.getLogger(__name__)

BATCH_SIZE = 32
_LOG_EVERY = 50
_CHECK_EVERY = 300
#: The checks during training use neither the scenes of training nor those of the final evaluation.
_CHECK_SEED = 777
_CHECK_SCENES = 100


class Run:
    """One training run: the trainee, the path of the checkpoint, and the state file from which a run resumes."""

    def __init__(self, processor: Florence2Processor, checkpoint: Path, state: Path) -> None:
        self.processor = processor
        self.trainee = Trainee(processor)
        self.checkpoint = checkpoint
        self.state = state

    def resume(self) -> None:
        """Load the weights of the last completed stage from the state file."""
        self.trainee.load_state_dict(torch.load(self.state))

    def train(self, stage: Stage) -> None:
        """Train one stage and save the weights."""
        batches = load_batches(self.processor, BATCH_SIZE, stage.seed)
        started = time.monotonic()
        for step, losses in enumerate(_steps(self.trainee, stage, batches), start=1):
            if step % _LOG_EVERY == 0:
                speed = step * BATCH_SIZE / (time.monotonic() - started)
                log.info("%s %d: %s, %.0f images/s", stage.name, step, _format(losses), speed)
            if stage.language and (step % _CHECK_EVERY == 0 or step == stage.steps):
                self._check()
        self.state.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.trainee.state_dict(), self.state)

    def _check(self) -> None:
        model = copy.deepcopy(self.trainee.florence).eval()
        figures = evaluate(model, self.processor, held_out_scenes(_CHECK_SCENES, _CHECK_SEED))
        log.info("%s", asdict(figures))
        model.half().save_pretrained(self.checkpoint)
        self.processor.save_pretrained(self.checkpoint)


def _steps(trainee: Trainee, stage: Stage, batches: Iterator[Batch]) -> Iterator[dict[str, Tensor]]:
    """Run the optimizer steps of the stage; yields the losses of each."""
    trainee.train_only(stage)
    weights = [weight for weight in trainee.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = OneCycleLR(optimizer, stage.rate, total_steps=stage.horizon, pct_start=0.1)
    for _ in range(stage.steps):
        losses = trainee.losses(next(batches), stage)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        yield losses


def _format(losses: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items())


def main() -> None:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--state", type=Path, default=Path(".local/demo_model.pt"))
    parser.add_argument("--first", choices=names, default=names[0], help="resume with this stage")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    run = Run(build_processor(), options.checkpoint, options.state)
    if options.first != names[0]:
        run.resume()
    for stage in STAGES[names.index(options.first) :]:
        run.train(stage)


if __name__ == "__main__":
    main()
