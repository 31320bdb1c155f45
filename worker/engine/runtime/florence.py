"""Florence-2 through transformers' native classes: preprocess, generate, postprocess, warmup."""

import copy
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
    PretrainedConfig,
)
from transformers import logging as transformers_logging

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed, SettingsError
from dropline.settings import EngineSettings
from worker.engine.runtime.answers import read_answer
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.device import choose_device, choose_dtype
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: Part of a child's patience that one batch may take on a processor, where a batch is no faster than its images.
_BATCH_SHARE = 0.25


def load_florence(settings: EngineSettings, checkpoint: Checkpoint) -> "FlorenceModel":
    """Load a checkpoint onto the device that the settings name.

    Raises:
        SettingsError: the checkpoint, device or dtype cannot be used.
    """
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config, _ = PretrainedConfig.get_config_dict(checkpoint.directory)
    if config.get("model_type") != "florence2":
        raise SettingsError(
            f"{checkpoint.name} is no Florence-2 checkpoint in transformers' native format (its model_type is "
            f"{config.get('model_type')!r}); the ones of florence-community are"
        )
    processor = Florence2Processor.from_pretrained(checkpoint.directory, trust_remote_code=False)
    model: Any = Florence2ForConditionalGeneration.from_pretrained(
        checkpoint.directory, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    return FlorenceModel(model.to(device).eval(), processor, checkpoint, settings)


class FlorenceModel:
    """A loaded checkpoint; see `worker.engine.runtime.model.Model`.

    The transformers model is typed `Any`: the annotations of its `generate` do not admit its own arguments.
    """

    def __init__(
        self,
        model: Any,
        processor: Florence2Processor,
        checkpoint: Checkpoint,
        settings: EngineSettings,
    ) -> None:
        self._model = model
        self._processor = processor
        self._batch_budget_s = settings.request_timeout_s * _BATCH_SHARE
        self._generation = _generation(model, settings)
        self._longest_input: int = model.config.text_config.max_position_embeddings
        images = processor.image_processor
        self._scale, self._shift = _normalisation(
            images.image_mean, images.image_std, images.rescale_factor, model.device
        )
        self.input_size: int = images.size["height"]
        self.name = checkpoint.name
        self.revision = checkpoint.revision
        self.largest_batch = sys.maxsize
        self.device = str(model.device)
        self.dtype = str(model.dtype).removeprefix("torch.")

    def allocate(self) -> Pixels:
        """Memory for one image; page-locked where a GPU reads it."""
        shape = (self.input_size, self.input_size, 3)
        on_gpu = self._model.device.type == "cuda"
        pixels: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu).numpy()
        return pixels

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption]:
        """Caption all of a batch, in its order.

        Raises:
            BatchTooLarge: the device's memory ran out.
            InferenceFailed: a prompt is longer than the model reads.
        """
        try:
            rows = self.generate(self.preprocess(batch))
        except torch.OutOfMemoryError as error:
            reason = str(error)
        else:
            return [self.postprocess(row, item) for row, item in zip(rows, batch, strict=True)]
        # Out of the handler, the failed attempt's tensors are free to go.
        torch.cuda.empty_cache()
        raise BatchTooLarge(reason)

    @torch.inference_mode()
    def preprocess(self, batch: Sequence[CaptionRequest]) -> dict[str, Tensor]:
        """`pixel_values` `[batch, 3, size, size]`, and `input_ids` and `attention_mask` `[batch, tokens]`.

        Raises:
            InferenceFailed: a prompt is longer than the model reads.
        """
        device = self._model.device
        images = [torch.from_numpy(item.pixels).to(device, non_blocking=True) for item in batch]
        pixels = torch.stack(images).permute(0, 3, 1, 2) * self._scale + self._shift
        prompts = self._processor.tokenizer.pad(
            {"input_ids": [self._prompt_ids(item.task) for item in batch]}, return_tensors="pt"
        ).to(device)
        return {"pixel_values": pixels.to(self._model.dtype), **prompts}

    @torch.inference_mode()
    def generate(self, inputs: dict[str, Tensor]) -> list[list[int]]:
        """The generated ids of every image, padded to one length."""
        rows: list[list[int]] = self._model.generate(**inputs, generation_config=self._generation).tolist()
        return rows

    def postprocess(self, row: Sequence[int], item: CaptionRequest) -> Caption:
        """What the generated ids say, in pixels of the upright original."""
        text, result = read_answer(self._processor, row, item.task.prompt, item.original)
        return Caption(text, result, self.name, self.revision)

    def warmup(self) -> None:
        """Caption a grey image twice: the first time is slow, the second one tells how many fit into a batch.

        Raises:
            SettingsError: the checkpoint's processor lacks a task.
        """
        self._check_tasks()
        grey = self.allocate()
        grey.fill(127)
        probe = CaptionRequest(grey, TaskRequest(TaskPrompt.CAPTION), Dimensions(self.input_size, self.input_size))
        self.caption([probe])
        began = time.monotonic()
        self.caption([probe])
        if self._model.device.type == "cpu":
            self.largest_batch = max(1, int(self._batch_budget_s / (time.monotonic() - began)))

    def _check_tasks(self) -> None:
        end = [self._processor.tokenizer.eos_token_id]
        for prompt in TaskPrompt:
            try:
                read_answer(self._processor, end, prompt, Dimensions(1, 1))
            except ValueError as error:
                raise SettingsError(
                    f"{self.name} cannot serve {prompt}: its processor's configuration lacks it ({error}); use a "
                    "checkpoint with a complete processor_config.json"
                ) from error

    def _prompt_ids(self, task: TaskRequest) -> list[int]:
        processor, tokenizer = self._processor, self._processor.tokenizer
        prompt = task.prompt.value
        words = processor.task_prompts_without_inputs.get(prompt)
        if words is None:
            words = processor.task_prompts_with_input[prompt].format(input=task.text)
        ids: list[int] = [processor.image_token_id] * processor.num_image_tokens
        ids += tokenizer(tokenizer.bos_token + words + tokenizer.eos_token, add_special_tokens=False).input_ids
        if len(ids) > self._longest_input:
            raise InferenceFailed(
                f"{prompt} with its text is {len(ids)} tokens long, image included, but {self.name} reads "
                f"{self._longest_input}; shorten the text"
            )
        return ids


def _generation(model: Any, settings: EngineSettings) -> GenerationConfig:
    generation: GenerationConfig = copy.deepcopy(model.generation_config)
    longest = model.config.text_config.max_position_embeddings - 1
    generation.update(
        num_beams=settings.num_beams,
        early_stopping=settings.num_beams > 1 and generation.early_stopping,
        do_sample=False,
        max_length=None,
        max_new_tokens=min(settings.max_new_tokens, longest),
    )
    return generation


def _normalisation(
    mean: Sequence[float], std: Sequence[float], rescale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`pixels * scale + shift` is what the image processor computes in three steps; both `[3, 1, 1]`."""
    deviation = np.asarray(std)
    scale = torch.tensor(rescale / deviation, dtype=torch.float32, device=device)
    shift = torch.tensor(-np.asarray(mean) / deviation, dtype=torch.float32, device=device)
    return scale.view(3, 1, 1), shift.view(3, 1, 1)
