"""Turns the model's tokens into text and plain JSON, in pixels of the upright original."""

from collections.abc import Sequence
from typing import Any

from transformers import Florence2Processor

from dropline.contract import Dimensions, TaskPrompt

_LABELS = ("labels", "bboxes_labels", "polygons_labels")
_DECIMALS = 1


def read_answer(
    processor: Florence2Processor, tokens: Sequence[int], prompt: TaskPrompt, original: Dimensions
) -> tuple[str, dict[str, Any] | None]:
    """What the generated tokens say; nothing is added to them, so the text may be empty.

    Args:
        processor: knows the grammar of every task's answers.
        tokens: generated ids, padding included.
        prompt: the task that was asked.
        original: size in which boxes and polygons are wanted, in pixels.
    """
    padding = processor.tokenizer.pad_token_id
    said = [token for token in tokens if token != padding]
    text = processor.tokenizer.decode(said, skip_special_tokens=False)
    size = (original.width, original.height)
    parsed = processor.post_process_generation(text=text, task=prompt.value, image_size=size)[prompt.value]
    if isinstance(parsed, str):
        return parsed, None
    return _labels(parsed), {key: _rounded(value) for key, value in parsed.items()}


def _labels(parsed: dict[str, Any]) -> str:
    labels = [label for key in _LABELS for label in parsed.get(key, ())]
    return ", ".join(label for label in labels if label)


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, _DECIMALS) if isinstance(value, float) else value
