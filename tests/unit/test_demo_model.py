"""The demo checkpoint: loaded by the real Florence-2 classes, small, and accurate."""

import json
import random
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from tools.demo_model.evaluate import CHECKPOINT, evaluate, held_out_scenes, iou, matched_boxes, read
from tools.demo_model.samples import SAMPLES
from tools.demo_model.scenes import TASKS, Item, Scene, Task, sample_scene
from tools.demo_model.tokenizer import PROMPTS, florence_tokens

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def processor() -> Florence2Processor:
    return Florence2Processor.from_pretrained(CHECKPOINT, trust_remote_code=False, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Florence2ForConditionalGeneration:
    return Florence2ForConditionalGeneration.from_pretrained(
        CHECKPOINT, trust_remote_code=False, local_files_only=True, dtype=torch.float32
    ).eval()


def test_the_checkpoint_is_small_enough_for_git() -> None:
    """All files together are at most 12 MB."""
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 12 * MEGABYTE


def test_the_weights_are_half_precision_safetensors() -> None:
    """The weights are safetensors, not pickles, and every tensor is half precision."""
    assert not [file for file in CHECKPOINT.iterdir() if file.suffix in {".bin", ".pt", ".pkl"}]
    with safe_open(CHECKPOINT / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118


def test_every_special_token_is_one_token(processor: Florence2Processor) -> None:
    """Each special token of Florence-2 has a unique id, a thousand locations included."""
    tokens = florence_tokens()
    assert sum(token.startswith("<loc_") for token in tokens) == 1000
    ids = processor.tokenizer.convert_tokens_to_ids([*tokens, "<image>"])
    assert len(set(ids)) == len(tokens) + 1
    assert processor.tokenizer.unk_token_id not in ids


def test_prompts_are_whole_words(processor: Florence2Processor) -> None:
    """Each word of the processor's prompts is a single token."""
    for task, prompt in PROMPTS.items():
        assert processor.task_prompts_without_inputs[task] == prompt
        words = processor.tokenizer.tokenize(prompt)
        assert len(words) == len(prompt.replace(",", " ,").replace("?", " ?").replace(".", " .").split())


def test_generation_neither_bans_repeats_nor_starts_wrongly(model: Florence2ForConditionalGeneration) -> None:
    """The generation defaults allow "a red circle and a red square" and begin with BART's tokens."""
    settings = model.generation_config
    assert settings.no_repeat_ngram_size == 0
    assert settings.decoder_start_token_id == 2
    assert settings.forced_bos_token_id == 0


def test_unseen_scenes_are_described(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor
) -> None:
    """Of forty held-out scenes, at least nine tenths of the captions are exact and of the boxes found."""
    figures = evaluate(model, processor, held_out_scenes(40, seed=31_337))
    assert figures.exact_captions >= 0.9
    assert figures.boxes_found >= 0.9
    assert figures.boxes_right >= 0.9


def test_beams_agree_with_the_truth(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor
) -> None:
    """Beam search, an option of the engine, gives the same caption of a sample."""
    record = _samples()[0]
    image = Image.open(SAMPLES / record["file"])
    assert list(read(model, processor, [image], "<CAPTION>", beams=3)) == [record["caption"]]


@pytest.mark.parametrize("task", TASKS)
def test_samples_are_described(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor, task: Task
) -> None:
    """The answer for every sample image equals `captions.json`."""
    records = _samples()
    images = [Image.open(SAMPLES / record["file"]).convert("RGB") for record in records]
    for found, record in zip(read(model, processor, images, task), records, strict=True):
        if task == "<OD>":
            assert found["labels"] == [thing["label"] for thing in record["objects"]]
            for box, thing in zip(found["bboxes"], record["objects"], strict=True):
                assert iou(box, thing["box"]) >= 0.5
        else:
            assert found == record["caption" if task == "<CAPTION>" else "detailed_caption"]


def test_a_box_counts_once_and_only_under_its_own_label() -> None:
    """A distant box, a wrong label and a second box for the same item do not match."""
    item = Item(colour="red", shape="circle", size="small", column=0, box=(0.1, 0.1, 0.3, 0.3), rgb=(255, 0, 0))
    background = sample_scene(random.Random(0)).background
    scene = Scene(items=(item,), background=background, aspect=1.0)
    right = [10.0, 10.0, 30.0, 30.0]
    assert matched_boxes({"labels": ["red circle"] * 2, "bboxes": [right, right]}, scene, (100, 100)) == 1
    assert matched_boxes({"labels": ["blue circle"], "bboxes": [right]}, scene, (100, 100)) == 0
    assert matched_boxes({"labels": ["red circle"], "bboxes": [[60, 60, 90, 90]]}, scene, (100, 100)) == 0


def test_iou_of_half_overlapping_boxes() -> None:
    """Two equal boxes that overlap by half have an IoU of a third."""
    assert iou((0, 0, 2, 1), (1, 0, 3, 1)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def _samples() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((SAMPLES / "captions.json").read_text(encoding="utf-8"))
    return records
