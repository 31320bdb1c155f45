"""The model in training: Florence-2, the dense head, the stages of training, and the losses of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from tools.demo_model.batches import NO_ITEM, Batch, CellTargets
from tools.demo_model.build import SHAPE, build_model
from tools.demo_model.scenes import COLOURS, SHAPES, SIZES, TASKS

_SPLIT = (1, len(COLOURS), len(SHAPES), len(SIZES), 4)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training: the trained parts, the schedule and the scenes."""

    name: str
    steps: int
    #: Steps of the learning rate's rise and fall: more than `steps` where a later stage continues.
    horizon: int
    #: The highest learning rate.
    rate: float
    #: Seed of the scenes.
    seed: int
    vision: bool
    language: bool
    #: Weight of the dense head's loss beside the losses of the texts; 0: no dense head.
    dense_weight: float


STAGES = (
    # With a target in every cell the vision tower learns within minutes.
    Stage("vision", steps=1500, horizon=3000, rate=2e-3, seed=101, vision=True, language=False, dense_weight=1.0),
    # The language model learns from the trained vision tower, which needs no backward pass.
    Stage("language", steps=600, horizon=600, rate=1e-3, seed=202, vision=False, language=True, dense_weight=0.0),
    Stage("joint", steps=900, horizon=900, rate=1e-3, seed=303, vision=True, language=True, dense_weight=0.3),
)


class DenseHead(nn.Module):
    """Predicts colour, shape, size and box of the item in each cell from the image token of the cell.

    A caption is a weak signal for the vision tower; a target in every cell is a direct one. One linear layer
    suffices, so the decoder can read the same features. The head is dropped after training.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(_SPLIT))

    def forward(self, tokens: Tensor, cells: CellTargets) -> Tensor:
        """The loss of the image tokens, BxTxwidth, against their targets."""
        presence, *words, boxes = self.read(tokens).split(_SPLIT, dim=-1)
        on_item = cells.words[..., 0] != NO_ITEM
        loss = functional.binary_cross_entropy_with_logits(presence.squeeze(-1), on_item.float())
        for index, scores in enumerate(words):
            loss = loss + functional.cross_entropy(scores[on_item], cells.words[..., index][on_item])
        return loss + 10 * functional.smooth_l1_loss(boxes[on_item], cells.boxes[on_item], beta=0.05)

    @torch.no_grad()
    def accuracy(self, tokens: Tensor, cells: CellTargets) -> dict[str, float]:
        """Shares of right predictions (presence in all cells, words on the items) and the mean error of a box."""
        presence, *words, boxes = self.read(tokens).split(_SPLIT, dim=-1)
        on_item = cells.words[..., 0] != NO_ITEM
        figures = {"presence": ((presence.squeeze(-1) > 0) == on_item).float().mean().item()}
        for index, (name, scores) in enumerate(zip(("colour", "shape", "size"), words, strict=True)):
            right = scores[on_item].argmax(-1) == cells.words[..., index][on_item]
            figures[name] = right.float().mean().item()
        figures["box_error"] = (boxes[on_item] - cells.boxes[on_item]).abs().mean().item()
        return figures


class Trainee(nn.Module):
    """Florence-2 and the dense head; every image passes the vision tower once and trains all three tasks."""

    def __init__(self, processor: Florence2Processor) -> None:
        super().__init__()
        self.florence: Florence2ForConditionalGeneration = build_model(processor)
        self.dense = DenseHead(SHAPE.width)
        self.prompts = [_prompt_ids(processor, task) for task in TASKS]

    def train_only(self, stage: Stage) -> None:
        """Freeze the parts that the stage does not train."""
        self.florence.requires_grad_(stage.language)
        self.florence.model.vision_tower.requires_grad_(stage.vision)
        self.florence.model.multi_modal_projector.requires_grad_(stage.vision)

    def losses(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """The losses of the stage: the weighted dense loss, and one loss per task."""
        with torch.set_grad_enabled(stage.vision):
            tokens = self.florence.get_image_features(batch.pixels).pooler_output
        losses = {}
        if stage.dense_weight:
            losses["dense"] = self.dense(tokens[:, 1:], batch.cells) * stage.dense_weight
        if stage.language:
            for task, prompt, labels in zip(TASKS, self.prompts, batch.labels, strict=True):
                losses[task] = self._text_loss(tokens, prompt, labels)
        return losses

    def _text_loss(self, tokens: Tensor, prompt: Tensor, labels: Tensor) -> Tensor:
        question = self.florence.get_input_embeddings()(prompt).expand(len(tokens), -1, -1)
        encoder = self.florence.model.language_model.encoder
        encoded = encoder(inputs_embeds=torch.cat([tokens, question], dim=1))
        loss: Tensor = self.florence(encoder_outputs=encoded, labels=labels).loss
        return loss


def _prompt_ids(processor: Florence2Processor, task: str) -> Tensor:
    prompt = processor.task_prompts_without_inputs[task]
    return torch.tensor([processor.tokenizer(prompt).input_ids])
