"""Answers of the model that are answers: tokens of the task's grammar, finite logits, no endless repetition."""

import array
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BartTokenizer, Florence2Processor

from dropline.contract import TaskPrompt
from dropline.errors import InferenceFailed
from worker.engine.runtime.model import NON_FINITE_LOGITS, REPETITIVE_ANSWER

#: Largest ratio of the bytes of the token ids (32 bits each) to their size after zlib, of an answer that is kept.
#: Of 1,023 made-up ids: two hundred boxes have a ratio of 2, text by Zipf's law 4.4, digits 6.7, a sentence of 30
#: tokens again and again 31, one token 132. Whisper recognises failed transcriptions by the same measure.
_LARGEST_COMPRESSION_RATIO = 12.0

_POLYGONS = ("<poly>", "</poly>")
_SEPARATORS = ("<and>", "<sep>")


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The tokens of an answer, beside the end of the sentence."""

    #: Tokens of words.
    words: bool = True
    #: Tokens of coordinates, `<loc_0>` to `<loc_999>`, and what stands between two regions.
    regions: bool = False
    #: Tokens that begin and end a polygon.
    polygons: bool = False


#: By the kinds of answers of `Florence2PostProcessor`.
_GRAMMARS = {
    "pure_text": _Grammar(),
    "ocr": _Grammar(regions=True),
    "description_with_bboxes": _Grammar(regions=True),
    "phrase_grounding": _Grammar(regions=True),
    "bboxes": _Grammar(words=False, regions=True),
    "polygons": _Grammar(regions=True, polygons=True),
    "description_with_bboxes_or_polygons": _Grammar(regions=True, polygons=True),
}


class AnswerRules:
    """The tokens that the answers of a checkpoint cannot contain, by task prompt."""

    def __init__(self, processor: Florence2Processor, rows: int, device: torch.device) -> None:
        """Read the vocabulary once.

        Args:
            processor: has the kind of answer of every task.
            rows: length of the logits; may be larger than the vocabulary.
            device: of the model.
        """
        self._kinds: dict[str, str] = processor.tasks_answer_post_processing_type
        order = list(_GRAMMARS)
        self._number_of_kind = {kind: number for number, kind in enumerate(order)}
        #: bool, `[kinds, rows]`; True: never generated.
        self._banned = torch.stack([_banned(processor.tokenizer, _GRAMMARS[kind], rows) for kind in order]).to(
            device
        )

    def banned(self, prompts: Sequence[TaskPrompt]) -> Tensor:
        """bool, `[prompts, rows]`: the tokens that the answer to each prompt cannot contain."""
        return self._banned[[self._number_of_kind[self._kinds[prompt.value]] for prompt in prompts]]


def _banned(tokenizer: BartTokenizer, grammar: _Grammar, rows: int) -> Tensor:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()} | {*tokenizer.all_special_tokens}
    regions = {token for token in special if token.startswith("<loc_")} | {*_SEPARATORS}
    allowed: set[str] = {tokenizer.bos_token, tokenizer.eos_token}
    if grammar.words:
        allowed |= vocabulary.keys() - special
    if grammar.regions:
        allowed |= regions
    if grammar.polygons:
        allowed |= {*_POLYGONS}
    # Rows behind the vocabulary stay banned: a checkpoint may round its embeddings up.
    banned = torch.ones(rows, dtype=torch.bool)
    banned[[vocabulary[token] for token in allowed & vocabulary.keys()]] = False
    return banned


def check_answer(tokens: Sequence[int], *, limit: int, broken: bool, tokenizer: Any) -> None:
    """Refuse an answer that is no answer.

    Args:
        tokens: generated ids, the first token and padding included.
        limit: the most tokens of an answer.
        broken: True if a logit was not finite.
        tokenizer: has the ids of padding and end.

    Raises:
        InferenceFailed: `non_finite_logits` or `repetitive_answer`.
    """
    if broken:
        raise InferenceFailed(
            "the model's logits for this image are not finite; try DROPLINE_ENGINE__DTYPE=float32, and look at "
            "the image",
            code=NON_FINITE_LOGITS,
        )
    answer = [token for token in tokens[1:] if token != tokenizer.pad_token_id]
    if len(answer) >= limit and is_repetitive(answer):
        raise InferenceFailed(
            f"the model's answer repeats itself up to the limit of {limit} tokens, so the answer is no caption; "
            "look at the image, or try another task",
            code=REPETITIVE_ANSWER,
        )


def is_repetitive(tokens: Sequence[int]) -> bool:
    """True if the token ids are mostly the same few, in the same order."""
    data = array.array("I", tokens).tobytes()
    return len(data) > _LARGEST_COMPRESSION_RATIO * len(zlib.compress(data, 9))
