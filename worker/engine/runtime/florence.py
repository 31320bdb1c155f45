"""Florence-2: prompts, generation, captions and the start, around the network and transformers' processor."""

import copy
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Florence2Processor, GenerationConfig

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed, SettingsError
from dropline.settings import EngineSettings
from worker.engine.runtime.answers import AnswerRules, check_answer
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.device_errors import guarded
from worker.engine.runtime.florence_stream import FlorenceStream
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, Stream
from worker.engine.runtime.network.beams import BeamBatches
from worker.engine.runtime.network.form import Form, form_of
from worker.engine.runtime.network.generation import Batch, Network, most_positions
from worker.engine.runtime.network.onednn_operations import OneDnnOperations, has_onednn
from worker.engine.runtime.network.operations import Operations, PortableOperations
from worker.engine.runtime.network.search import SearchRules
from worker.engine.runtime.network.slots import GreedySlots
from worker.engine.runtime.warmup import largest_batch, tasks_of_all_widths
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: Share of the children's request timeout that one batch may take on a CPU, where it saves little time.
_BATCH_TIME_SHARE = 0.25
#: Share of it after which an answer under way on a CPU waits for no more images.
_PATIENCE_SHARE = 0.4
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
    """A loaded checkpoint; see `worker.engine.runtime.model.Model`."""

    def __init__(
        self,
        model: Any,
        processor: Florence2Processor,
        checkpoint: Checkpoint,
        settings: EngineSettings,
        form: Form | None = None,
        operations: Operations | None = None,
    ) -> None:
        """Take a checkpoint that is on its device; `form` and `operations` are by default those of the device."""
        self._processor = processor
        self._batch_budget_s = settings.request_timeout_s * _BATCH_TIME_SHARE
        self._patience_s = settings.request_timeout_s * _PATIENCE_SHARE
        self._max_batch = settings.max_batch
        self._limits = settings.max_new_tokens_by_task
        self._max_prompt_tokens = most_positions(model, processor.num_image_tokens)
        self.input_size: int = processor.image_processor.size["height"]
        self.name = checkpoint.name
        self.revision = checkpoint.revision
        self.largest_batch = sys.maxsize
        self._device: torch.device = model.device
        self.device = str(model.device)
        self.dtype = str(model.dtype).removeprefix("torch.")
        vocabulary: int = model.config.text_config.vocab_size
        self._grammars = AnswerRules(processor, vocabulary, model.device)
        self._rules = _search_rules(model, checkpoint, settings)
        if self._device.type == "cuda":
            # Convolutions in float32 would have ten bits of precision by default, and answers unlike a CPU's.
            torch.backends.cudnn.allow_tf32 = False
        self._form = form or form_of(self._device, self.input_size)
        # Without graphs the time is the limit, which stays.
        self.may_grow = not self._form.exact
        self._generator = self._build_largest(model, vocabulary, operations or self._own_operations(model.dtype))
        #: The tokens of the prompts without a text.
        self._prompts: dict[TaskPrompt, list[int]] = {}
        self.stream: Stream | None = self._stream()

    def _build_largest(self, model: Any, vocabulary: int, operations: Operations) -> GreedySlots | BeamBatches:
        """Reserve memory for the largest batch, of half the size where the device has too little.

        Raises:
            BatchTooLarge: the device's memory does not hold one image.
        """
        while True:
            try:
                return guarded(lambda: self._build_generator(model, vocabulary, operations))
            except BatchTooLarge:
                if self._max_batch == 1:
                    raise
            self._max_batch //= 2
            self.largest_batch = self._max_batch

    @torch.inference_mode()
    def _build_generator(self, model: Any, vocabulary: int, operations: Operations) -> GreedySlots | BeamBatches:
        images = self._processor.image_processor
        scale, shift = normalisation(images.image_mean, images.image_std, images.rescale_factor, model.device)
        network = Network(model, self._processor.num_image_tokens, scale, shift, operations)
        build = GreedySlots if self._rules.beams == 1 else BeamBatches
        return build(network, self._rules, self._max_batch, self.input_size, vocabulary, self._form)

    def _own_operations(self, dtype: torch.dtype) -> Operations:
        return triton_operations() if self._device.type == "cuda" else cpu_operations(dtype)

    def allocate(self) -> Pixels:
        """Memory for one image; page-locked if a GPU reads the image."""
        shape = (self.input_size, self.input_size, 3)
        on_gpu = self._device.type == "cuda"
        pixels: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu).numpy()
        return pixels

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """The captions of a batch, in the batch's order; an error in place of an answer that is no answer.

        Raises:
            BatchTooLarge: the device's memory ran out.
            DeviceBroken: the device can be used no more by this process.
            InferenceFailed: a prompt has more tokens than the model reads.
        """
        answers = guarded(lambda: self.generate(batch))
        return [self.postprocess(answer, request) for answer, request in zip(answers, batch, strict=True)]

    def generate(self, batch: Sequence[CaptionRequest]) -> list[Generated]:
        """The generated token ids of every request; an image of several requests is seen once.

        Raises:
            InferenceFailed: a prompt has more tokens than the model reads.
        """
        answers = self._generator(self._batch_of(batch))
        return [Generated(*answer) for answer in zip(answers.tokens, answers.broken, strict=True)]

    def _batch_of(self, requests: Sequence[CaptionRequest]) -> Batch:
        images = {id(request.pixels): request.pixels for request in requests}
        places = {key: place for place, key in enumerate(images)}
        return Batch(
            pixels=[torch.from_numpy(pixels) for pixels in images.values()],
            images=[places[id(request.pixels)] for request in requests],
            prompts=[self._prompt_ids(request.task) for request in requests],
            banned=self._grammars.banned([request.task.prompt for request in requests]),
            limits=[self._limit_of(request.task.prompt) for request in requests],
        )

    def _stream(self) -> FlorenceStream | None:
        if not isinstance(self._generator, GreedySlots):
            return None
        return FlorenceStream(
            self._generator,
            # A GPU sees the next images while all slots are taken.
            largest=lambda: self.largest_batch if self._device.type == "cpu" else sys.maxsize,
            patience_s=self._patience_s if self._device.type == "cpu" else math.inf,
            batch_of=self._batch_of,
            check=lambda request: self._prompt_ids(request.task),
            guarded=guarded,
            caption=lambda ended, request: self.postprocess(Generated(ended.tokens, ended.broken), request),
        )

    def postprocess(self, answer: Generated, request: CaptionRequest) -> Caption | InferenceFailed:
        """The caption of the generated token ids, or the error of an answer that is no answer."""
        try:
            check_answer(
                answer.tokens,
                limit=self._limit_of(request.task.prompt),
                broken=answer.broken,
                tokenizer=self._processor.tokenizer,
            )
        except InferenceFailed as error:
            return error
        text, result = parse_output(self._processor, answer.tokens, request.task.prompt, request.original)
        return Caption(text, result, self.name, self.revision)

    def warmup(self) -> None:
        """Caption grey images, and find the largest batch: by the time on a CPU, by the memory on a GPU.

        On a GPU, each size of a graph is captured: of images and answers, and of all prompts without a free text.

        Raises:
            SettingsError: the checkpoint's processor lacks a task, or its logits are not finite.
            BatchTooLarge: the device's memory does not hold one image.
        """
        self._check_tasks()
        self.probe()
        if self._form.exact:
            # The first run is slow.
            began = time.monotonic()
            self.probe()
            self.largest_batch = max(1, int(self._batch_budget_s / (time.monotonic() - began)))
        else:
            self.largest_batch = self._largest_batch_in_memory()

    def capture_all(self) -> None:
        """Capture the work of each size up to the largest batch, as `warmup` does on a GPU, without captions."""
        widths = {self._widest, *(self._padded_width(task) for task in self._tasks_of_all_widths())}
        size = 0
        while size < self._max_batch:
            size = self._form.rounded(size + 1, self._max_batch)
            self._generator.capture(size, sorted(widths))

    def probe(self) -> None:
        """Caption a grey image.

        Raises:
            SettingsError: the logits are not finite.
        """
        self._check_logits(self.caption([self._grey_request()])[0])

    def _largest_batch_in_memory(self) -> int:
        def run(batch: list[CaptionRequest]) -> None:
            # The graphs of the longest texts need the most memory.
            guarded(lambda: self._generator.capture(len(batch), [self._widest]))
            self.caption(batch)

        return largest_batch(run, self._tasks_of_all_widths(), self._grey_request, self._max_batch)

    def _tasks_of_all_widths(self) -> list[TaskRequest]:
        return tasks_of_all_widths(self._padded_width)

    def _padded_width(self, task: TaskRequest) -> int:
        return self._form.padded_width(len(self._prompt_ids(task)), self._widest)

    @property
    def _widest(self) -> int:
        """The most tokens of a prompt, without those of the image."""
        return self._max_prompt_tokens - self._processor.num_image_tokens

    def _grey_request(self) -> CaptionRequest:
        grey = self.allocate()
        grey.fill(127)
        return CaptionRequest(grey, TaskRequest(TaskPrompt.CAPTION), Dimensions(self.input_size, self.input_size))

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

    def _limit_of(self, prompt: TaskPrompt) -> int:
        return min(self._limits.get(prompt, self._rules.limit), self._rules.limit)

    def _prompt_ids(self, task: TaskRequest) -> list[int]:
        """The tokens behind the image's; those of a prompt without a text are made once."""
        if task.text:
            return self._tokenised(task)
        if task.prompt not in self._prompts:
            self._prompts[task.prompt] = self._tokenised(task)
        return self._prompts[task.prompt]

    def _tokenised(self, task: TaskRequest) -> list[int]:
        processor, tokenizer = self._processor, self._processor.tokenizer
        prompt = task.prompt.value
        text = processor.task_prompts_without_inputs.get(prompt)
        if text is None:
            text = processor.task_prompts_with_input[prompt].format(input=task.text)
        ids: list[int] = tokenizer(
            tokenizer.bos_token + text + tokenizer.eos_token, add_special_tokens=False
        ).input_ids
        tokens: int = processor.num_image_tokens + len(ids)
        if tokens > self._max_prompt_tokens:
            raise InferenceFailed(
                f"{prompt} with its text is {tokens} tokens long, image included, but the engine reads "
                f"{self._max_prompt_tokens} with {self.name}; shorten the text"
            )
        return ids


def cpu_operations(dtype: torch.dtype) -> Operations:
    """The operations of a CPU that computes in `dtype`."""
    return OneDnnOperations() if dtype == torch.bfloat16 and has_onednn() else PortableOperations()


def triton_operations() -> Operations:
    """The operations of a GPU.

    Raises:
        SettingsError: Triton, or the C compiler that it calls at the first start, is missing.
    """
    if not any(map(shutil.which, ("gcc", "clang"))):
        raise SettingsError(
            "the engine on a GPU compiles its kernels at the first start, and finds no C compiler; install gcc, "
            "or set DROPLINE_ENGINE__DEVICE=cpu"
        )
    try:
        # Torch's builds for CPUs come without Triton.
        from worker.engine.runtime.network.triton_operations import TritonOperations
    except ImportError as error:
        raise SettingsError(
            f"the engine on a GPU needs Triton ({error}); install torch's build for CUDA, which brings it"
        ) from error
    return TritonOperations()


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


def _search_rules(model: Any, checkpoint: Checkpoint, settings: EngineSettings) -> SearchRules:
    config: GenerationConfig = copy.deepcopy(model.generation_config)
    max_output_tokens = model.config.text_config.max_position_embeddings - 1
    config.update(
        num_beams=settings.num_beams,
        early_stopping=settings.num_beams > 1 and config.early_stopping,
        do_sample=False,
        max_length=None,
        max_new_tokens=min(settings.max_new_tokens, max_output_tokens),
    )
    try:
        return SearchRules.of(config)
    except ValueError as error:
        raise SettingsError(
            f"{checkpoint.name} cannot be served: in its generation_config.json, {error}; use another checkpoint, "
            "or change the file of a copy"
        ) from error


def normalisation(
    mean: Sequence[float], std: Sequence[float], rescale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift, both float32 `[3]`: `pixels * scale + shift` joins the image processor's three steps."""
    deviation = np.asarray(std)
    scale = torch.tensor(rescale / deviation, dtype=torch.float32, device=device)
    shift = torch.tensor(-np.asarray(mean) / deviation, dtype=torch.float32, device=device)
    return scale, shift
