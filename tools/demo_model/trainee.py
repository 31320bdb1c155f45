"""The model in training: Florence-2, the dense head, and the losses of a batch."""

import torch
from torch import Tensor, nn
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from tools.demo_model.batches import Batch
from tools.demo_model.build import WIDTH, build_model
from tools.demo_model.dense_head import DenseHead
from tools.demo_model.recipe import Stage
from tools.demo_model.scenes import TASKS


class Trainee(nn.Module):
    """Every picture is seen once and asked about in every task, which triples what a forward pass teaches."""

    def __init__(self, processor: Florence2Processor) -> None:
        super().__init__()
        self.florence: Florence2ForConditionalGeneration = build_model(processor)
        self.dense = DenseHead(WIDTH)
        self.prompts = [_prompt_ids(processor, task) for task in TASKS]

    def train_only(self, stage: Stage) -> None:
        """Freezes what the stage does not train."""
        self.florence.requires_grad_(stage.language)
        self.florence.model.vision_tower.requires_grad_(stage.vision)
        self.florence.model.multi_modal_projector.requires_grad_(stage.vision)

    def losses(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """The weighted dense loss, and one loss per task, as far as the stage has them."""
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
