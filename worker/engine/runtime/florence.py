"""Florence-2 through transformers' native classes: preprocess, generate, postprocess, warmup."""

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Florence2Processor, GenerationConfig, LogitsProcessorList

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed, SettingsError
from dropline.settings import EngineSettings
from worker.engine.runtime.answers import AnswerRules, check_answer
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.device_errors import Fault, fault_of
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, DeviceBroken
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: Share of the children's request timeout that one batch may take on a CPU, where batching saves no time.
_BATCH_TIME_SHARE = 0.25
_LABEL_KEYS = ("labels", "bboxes_labels", "polygons_labels")
#: Of coordinates, in pixels.
_DECIMALS = 1


@dataclass(frozen=True, slots=True)
class Generated:
    """The generated answer for one image."""

    #: Token ids, the decoder's start token first, padded to one length.
    tokens: list[int]
    #: True if a logit was not finite.
    broken: bool


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
        self._batch_budget_s = settings.request_timeout_s * _BATCH_TIME_SHARE
        self._generation = _generation_config(model, settings)
        self._rules = AnswerRules(processor, model.config.text_config.vocab_size, model.device)
        self._max_prompt_tokens: int = model.config.text_config.max_position_embeddings
        image_processor = processor.image_processor
        self._scale, self._shift = _normalisation(
            image_processor.image_mean, image_processor.image_std, image_processor.rescale_factor, model.device
        )
        self.input_size: int = image_processor.size["height"]
        self.name = checkpoint.name
        self.revision = checkpoint.revision
        self.largest_batch = sys.maxsize
        self.device = str(model.device)
        self.dtype = str(model.dtype).removeprefix("torch.")

    def allocate(self) -> Pixels:
        """Memory for one image; page-locked if a GPU reads the image."""
        shape = (self.input_size, self.input_size, 3)
        on_gpu = self._model.device.type == "cuda"
        pixels: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu).numpy()
        return pixels

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """The captions of a batch, in the batch's order; an error in place of an answer that is no answer.

        Raises:
            BatchTooLarge: the device's memory ran out.
            DeviceBroken: the device can be used no more by this process.
            InferenceFailed: a prompt has more tokens than the model reads.
        """
        try:
            outputs = self.generate(self.preprocess(batch), [request.task.prompt for request in batch])
        except RuntimeError as error:
            fault, reason = fault_of(error), str(error)
            if fault is Fault.OTHER:
                raise
            if fault is Fault.BROKEN:
                raise DeviceBroken(reason) from error
        else:
            return [self.postprocess(answer, request) for answer, request in zip(outputs, batch, strict=True)]
        # Outside the handler, no frame holds the tensors of the failed attempt.
        torch.cuda.empty_cache()
        raise BatchTooLarge(reason)

    @torch.inference_mode()
    def preprocess(self, batch: Sequence[CaptionRequest]) -> dict[str, Tensor]:
        """`pixel_values` `[batch, 3, size, size]`, and `input_ids` and `attention_mask` `[batch, tokens]`.

        Raises:
            InferenceFailed: a prompt has more tokens than the model reads.
        """
        device = self._model.device
        images = [torch.from_numpy(request.pixels).to(device, non_blocking=True) for request in batch]
        pixels = torch.stack(images).permute(0, 3, 1, 2) * self._scale + self._shift
        prompts = self._processor.tokenizer.pad(
            {"input_ids": [self._prompt_ids(request.task) for request in batch]}, return_tensors="pt"
        ).to(device)
        return {"pixel_values": pixels.to(self._model.dtype), **prompts}

    @torch.inference_mode()
    def generate(self, inputs: dict[str, Tensor], prompts: Sequence[TaskPrompt]) -> list[Generated]:
        """The generated token ids of every image; `prompts` are the task prompts of the images."""
        guard = self._rules.guard(prompts, self._generation.num_beams)
        rows = self._model.generate(
            **inputs, generation_config=self._generation, logits_processor=LogitsProcessorList([guard])
        ).tolist()
        return [Generated(*row) for row in zip(rows, guard.broken_images(), strict=True)]

    def postprocess(self, answer: Generated, request: CaptionRequest) -> Caption | InferenceFailed:
        """The caption of the generated token ids, or the error of an answer that is no answer."""
        try:
            check_answer(
                answer.tokens,
                limit=self._generation.max_new_tokens,
                broken=answer.broken,
                tokenizer=self._processor.tokenizer,
            )
        except InferenceFailed as error:
            return error
        text, result = parse_output(self._processor, answer.tokens, request.task.prompt, request.original)
        return Caption(text, result, self.name, self.revision)

    def warmup(self) -> None:
        """Caption a grey image twice: the first run is slow, the second run measures the largest batch of a CPU.

        Raises:
            SettingsError: the checkpoint's processor lacks a task, or its logits are not finite.
        """
        self._check_tasks()
        grey = self.allocate()
        grey.fill(127)
        original = Dimensions(self.input_size, self.input_size)
        probe = CaptionRequest(grey, TaskRequest(TaskPrompt.CAPTION), original)
        self._check_logits(self.caption([probe])[0])
        began = time.monotonic()
        self.caption([probe])
        if self._model.device.type == "cpu":
            self.largest_batch = max(1, int(self._batch_budget_s / (time.monotonic() - began)))

    def _check_logits(self, outcome: Caption | InferenceFailed) -> None:
        if isinstance(outcome, InferenceFailed) and outcome.code == NON_FINITE_LOGITS:
            raise SettingsError(
                f"the logits of {self.name} are not finite with {self.dtype} on {self.device}, even for a grey "
                "image; set DROPLINE_ENGINE__DTYPE=float32, or use another checkpoint"
            )

    def _check_tasks(self) -> None:
        end = [self._processor.tokenizer.eos_token_id]
        for prompt in TaskPrompt:
            try:
                parse_output(self._processor, end, prompt, Dimensions(1, 1))
            except ValueError as error:
                raise SettingsError(
                    f"{self.name} cannot serve {prompt}: its processor's configuration lacks it ({error}); use a "
                    "checkpoint with a complete processor_config.json"
                ) from error

    def _prompt_ids(self, task: TaskRequest) -> list[int]:
        processor, tokenizer = self._processor, self._processor.tokenizer
        prompt = task.prompt.value
        text = processor.task_prompts_without_inputs.get(prompt)
        if text is None:
            text = processor.task_prompts_with_input[prompt].format(input=task.text)
        ids: list[int] = [processor.image_token_id] * processor.num_image_tokens
        ids += tokenizer(tokenizer.bos_token + text + tokenizer.eos_token, add_special_tokens=False).input_ids
        if len(ids) > self._max_prompt_tokens:
            raise InferenceFailed(
                f"{prompt} with its text is {len(ids)} tokens long, image included, but {self.name} reads "
                f"{self._max_prompt_tokens}; shorten the text"
            )
        return ids


def parse_output(
    processor: Florence2Processor, tokens: Sequence[int], prompt: TaskPrompt, original: Dimensions
) -> tuple[str, dict[str, Any] | None]:
    """Text and result of a `Caption`, as generated: no text is added, so the text may be empty.

    Args:
        processor: has the output grammar of every task.
        tokens: generated ids, padding included.
        prompt: the task prompt of the request.
        original: boxes and polygons of the result refer to these dimensions.
    """
    padding = processor.tokenizer.pad_token_id
    generated = [token for token in tokens if token != padding]
    text = processor.tokenizer.decode(generated, skip_special_tokens=False)
    size = (original.width, original.height)
    parsed = processor.post_process_generation(text=text, task=prompt.value, image_size=size)[prompt.value]
    if isinstance(parsed, str):
        return parsed, None
    return _joined_labels(parsed), {key: _rounded(value) for key, value in parsed.items()}


def _joined_labels(parsed: dict[str, Any]) -> str:
    labels = [label for key in _LABEL_KEYS for label in parsed.get(key, ())]
    return ", ".join(label for label in labels if label)


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _generation_config(model: Any, settings: EngineSettings) -> GenerationConfig:
    config: GenerationConfig = copy.deepcopy(model.generation_config)
    max_output_tokens = model.config.text_config.max_position_embeddings - 1
    config.update(
        num_beams=settings.num_beams,
        early_stopping=settings.num_beams > 1 and config.early_stopping,
        do_sample=False,
        max_length=None,
        max_new_tokens=min(settings.max_new_tokens, max_output_tokens),
    )
    return config


def _normalisation(
    mean: Sequence[float], std: Sequence[float], rescale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift, both `[3, 1, 1]`: `pixels * scale + shift` joins the image processor's three steps."""
    deviation = np.asarray(std)
    scale = torch.tensor(rescale / deviation, dtype=torch.float32, device=device)
    shift = torch.tensor(-np.asarray(mean) / deviation, dtype=torch.float32, device=device)
    return scale.view(3, 1, 1), shift.view(3, 1, 1)
