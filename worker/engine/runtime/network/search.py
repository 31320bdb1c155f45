"""Chooses the next tokens on the device: greedy, or a beam search with the results of transformers' own.

Every tensor keeps its shape and its place from the first to the last token, so that one captured step serves all.
For the same reason no step takes a number from the host: `torch.where` and an assignment to a slice copy one, and
`masked_fill` and `fill_` do not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.runtime.network.operations import Operations, allowed_scores

#: As in transformers: added to the scores of candidates that must not be chosen.
_NEVER = -1.0e9
#: Scores of a block in `largest`.
_BLOCK = 128


#: Rules of a `GenerationConfig` that change the answers, and that no Florence-2 checkpoint asks for.
_OTHER_RULES = (
    *("repetition_penalty", "encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "diversity_penalty"),
    *(
        "bad_words_ids",
        "suppress_tokens",
        "begin_suppress_tokens",
        "sequence_bias",
        "min_length",
        "min_new_tokens",
    ),
    *("exponential_decay_length_penalty", "guidance_scale", "renormalize_logits"),
)


@dataclass(frozen=True, slots=True)
class SearchRules:
    """The rules of a search, from the checkpoint's generation configuration and from the settings."""

    beams: int
    #: Most tokens of an answer, without the first one.
    limit: int
    start: int
    end: int
    padding: int
    #: The first token of every answer; None: free.
    forced_first: int | None
    #: The token at the limit; None: free.
    forced_last: int | None
    #: No run of so many tokens comes twice in an answer; 0: any may.
    ngram: int
    early_stopping: bool
    length_penalty: float

    @property
    def first_length(self) -> int:
        """Tokens of an answer after `Search.begin`."""
        return 1 if self.forced_first is None else 2

    @classmethod
    def of(cls, config: Any) -> Self:
        """The rules of a `GenerationConfig` with `max_new_tokens`.

        Raises:
            ValueError: the configuration asks for a rule that this search has not.
        """
        end = config.eos_token_id
        if not isinstance(end, int):
            raise ValueError(f"eos_token_id is {end!r}, not one token")  # noqa: TRY004 - a value of a file
        if config.early_stopping not in (True, False, None):
            raise ValueError(f"early_stopping is {config.early_stopping!r}, not true or false")
        for name in _OTHER_RULES:
            value = getattr(config, name, None)
            if value not in (None, 0, 1, [], False):
                raise ValueError(f"{name} is {value!r}, which Dropline does not support")
        return cls(
            beams=config.num_beams,
            limit=config.max_new_tokens,
            start=config.decoder_start_token_id,
            end=end,
            padding=config.pad_token_id,
            forced_first=config.forced_bos_token_id,
            forced_last=config.forced_eos_token_id,
            ngram=config.no_repeat_ngram_size or 0,
            early_stopping=config.early_stopping is True,
            length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
        )


class Search(ABC):
    """Answers while they grow. Rows are answers × beams, an answer's beams in a row."""

    def __init__(self, rules: SearchRules, operations: Operations, images: int, banned: Tensor) -> None:
        """Room for `images` answers, each of at most `rules.limit` tokens.

        Args:
            rules: of the search.
            operations: of the device.
            images: the most answers at a time.
            banned: bool, `[images, vocabulary]`.
        """
        device = banned.device
        self.rules, self.banned = rules, banned
        self._do, self._images, self._rows = operations, images, images * rules.beams
        #: int64 `[rows, 1 + limit]`: the running answers.
        self.tokens = torch.full((self._rows, 1 + rules.limit), rules.padding, device=device)
        #: int64 `[rows]`: index of the last token of every answer.
        self.positions = torch.zeros(self._rows, dtype=torch.int64, device=device)
        self._own = torch.arange(self._rows, dtype=torch.int32, device=device)
        #: int32 `[rows, 1 + limit]`: see `network.text.Caches`.
        self.ancestry = self._own[:, None].repeat(1, 1 + rules.limit)
        #: bool `[images]`: a logit was not finite.
        self.broken = torch.zeros(images, dtype=torch.bool, device=device)
        #: int64 `[images]`: most tokens of each answer, at most the limit of the rules.
        self.limits = torch.full((images,), rules.limit, dtype=torch.int64, device=device)

    def last_tokens(self, rows: int) -> Tensor:
        """int64 `[rows]`: the last token of each of the first rows."""
        return self.tokens[:rows].gather(1, self.positions[:rows, None])[:, 0]

    @abstractmethod
    def advance(self, logits: Tensor) -> None:
        """Append a token to every running answer; logits are `[rows, vocabulary]`, and may be changed."""


class GreedySearch(Search):
    """Appends the most likely token. Each row has an answer of its own, which begins and ends by itself."""

    def __init__(self, rules: SearchRules, operations: Operations, slots: int, banned: Tensor) -> None:
        """Room for an answer in each slot.

        Args:
            rules: of the search.
            operations: of the device.
            slots: the most answers at a time.
            banned: bool, `[slots, vocabulary]`; filled by `begin`.
        """
        super().__init__(rules, operations, slots, banned)
        #: bool `[slots]`: the slot's answer has ended, or there is none.
        self.ended = torch.ones(slots, dtype=torch.bool, device=banned.device)

    def begin(self, slots: Tensor, banned: Tensor, limits: Tensor) -> None:
        """Start answers in slots, int64 `[n]`, with their banned tokens `[n, vocabulary]` and limits `[n]`."""
        # The tokens behind an answer's last one are read by the ban of runs, and compared with nothing.
        self.tokens.index_fill_(0, slots, self.rules.padding)
        self.tokens[:, 0].index_fill_(0, slots, self.rules.start)
        self.positions.index_fill_(0, slots, 0)
        self.broken.index_fill_(0, slots, value=False)
        self.ended.index_fill_(0, slots, value=False)
        self.limits.index_copy_(0, slots, limits)
        self.banned.index_copy_(0, slots, banned)

    def advance(self, logits: Tensor) -> None:
        """Append a token to the running answers of the first rows; logits are `[rows, vocabulary]`."""
        rules, rows = self.rules, len(logits)
        tokens, positions, ended = self.tokens[:rows], self.positions[:rows], self.ended[:rows]
        running = ~ended
        chosen, broken = self._do.most_likely(logits, self.banned[:rows], tokens, positions, rules.ngram)
        self.broken[:rows] |= broken & running
        if rules.forced_first is not None:
            chosen = chosen.masked_fill(positions == 0, rules.forced_first)
        at_limit = positions + 1 >= self.limits[:rows]
        if rules.forced_last is not None:
            chosen = chosen.masked_fill(at_limit, rules.forced_last)
        chosen = chosen.masked_fill(broken, rules.end)
        chosen = torch.where(running, chosen, self.last_tokens(rows))
        positions += running
        tokens.scatter_(1, positions[:, None], chosen[:, None])
        ended |= (chosen == rules.end) | at_limit | broken


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest scores `[R, count]` of `[R, V]` in descending order, and their places, int64.

    They are in the blocks whose own largest scores are the largest. A CPU needs much longer to find them among
    all scores at once. Of equal scores, any may be chosen.
    """
    rows, length = scores.shape
    padded = functional.pad(scores, (0, -length % _BLOCK), value=-torch.inf).view(rows, -1, _BLOCK)
    blocks = padded.amax(-1).topk(min(count, padded.shape[1]), -1).indices
    values, places = padded.gather(1, blocks[:, :, None].expand(-1, -1, _BLOCK)).flatten(1).topk(count, -1)
    found = blocks.gather(1, places // _BLOCK) * _BLOCK + places % _BLOCK
    # Behind the end are minus infinities alone, of which a row with few allowed tokens has others.
    return values, found.clamp(max=length - 1)


class BeamSearch(Search):
    """Keeps the most likely answers of every image; after `_beam_search` of transformers' `GenerationMixin`."""

    def __init__(self, rules: SearchRules, operations: Operations, images: int, banned: Tensor) -> None:
        super().__init__(rules, operations, images, banned)
        device, beams = banned.device, rules.beams
        #: int64 `[1]`: all rows have the same position.
        self._position = self.positions[:1]
        #: bool `[images]`: places of a batch that hold no image.
        self.unused = torch.zeros(images, dtype=torch.bool, device=device)
        #: bool `[1]`: every answer has ended.
        self.done = torch.zeros(1, dtype=torch.bool, device=device)
        self._only_end = torch.full((banned.shape[1],), -torch.inf, device=device)
        self._only_end[rules.end] = 0
        self._only_last = torch.full_like(self._only_end, -torch.inf)
        if rules.forced_last is not None:
            self._only_last[rules.forced_last] = 0
        self._scores = torch.empty((images, beams), device=device)
        self._best = torch.empty((images, beams, 1 + rules.limit), dtype=torch.int64, device=device)
        self._best_scores = torch.empty((images, beams), device=device)
        self._full = torch.empty((images, beams), dtype=torch.bool, device=device)
        self._hopeful = torch.empty((images, 1), dtype=torch.bool, device=device)
        self._first_rows = torch.arange(images, device=device)[:, None] * beams

    def begin(self, fill: Callable[[Tensor, Tensor], object]) -> None:
        """Start new answers.

        Args:
            fill: runs the decoder for the tokens `[rows]` at their positions `[rows]`, without logits; called for
                the start token where the first token of an answer is a forced one.
        """
        self.tokens.fill_(self.rules.padding)
        self.tokens[:, 0].fill_(self.rules.start)
        self.ancestry.copy_(self._own[:, None])
        self.positions.zero_()
        self.broken.zero_()
        self.done.zero_()
        if self.rules.forced_first is not None:
            fill(self.tokens[:, 0], self.positions)
            self.tokens[:, 1].fill_(self.rules.forced_first)
            self.positions.fill_(1)
        # All beams of an image begin alike: only the first one may have children.
        self._scores.fill_(_NEVER)
        self._scores[:, 0].zero_()
        self._best.fill_(self.rules.padding)
        self._best_scores.fill_(_NEVER)
        self._full.copy_(self.unused[:, None].expand_as(self._full))
        self._hopeful.copy_(~self.unused[:, None])

    def advance(self, logits: Tensor) -> None:
        """See `Search`."""
        beams, images = self.rules.beams, self._images
        logits = logits.float()
        total = torch.logsumexp(logits, -1, keepdim=True)
        logits, total = self._allowed(logits, total)
        # The best of an image are among the best of its beams.
        logits, tokens = largest(logits, 2 * beams)
        # Logarithms of the probabilities.
        scores = logits - total
        scores = (scores.view(images, beams, -1) + self._scores[:, :, None]).flatten(1)
        scores, order = scores.topk(2 * beams, -1)
        parents = order // (2 * beams)
        tokens = tokens.view(images, -1).gather(1, order)
        answers = self._gather(self.tokens.view(images, beams, -1), parents)
        answers.index_copy_(2, self._position + 1, tokens[:, :, None])
        at_limit = self._at_limit[:, None]
        ended = (tokens == self.rules.end) | at_limit
        self._keep_ended(answers, scores, ended)
        self._go_on(answers, scores, ended, parents)
        self._settle(at_limit)

    def answers(self) -> Tensor:
        """int64 `[images, 1 + limit]`: the best answers, padded."""
        return self._best[:, 0]

    @property
    def _at_limit(self) -> Tensor:
        """bool `[images]`: the next token is the last one of the answer."""
        return self._position + 1 >= self.limits

    def _allowed(self, logits: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """The logits without those of forbidden tokens, and the total; a forced token has the probability 1."""
        rules = self.rules
        banned = self.banned.repeat_interleave(rules.beams, 0)
        logits, broken = allowed_scores(logits, banned, self.tokens, self.positions, rules.ngram)
        # Of a forbidden token too: the probabilities are shares of all.
        broken |= ~torch.isfinite(total[:, 0])
        self.broken |= broken.view(self._images, rules.beams).any(1)
        total = total.masked_fill(broken[:, None], 0)
        if rules.forced_last is not None:
            at_limit = self._at_limit.repeat_interleave(rules.beams)[:, None]
            logits = torch.where(at_limit, self._only_last + total, logits)
        return torch.where(broken[:, None], self._only_end, logits), total

    def _keep_ended(self, answers: Tensor, scores: Tensor, ended: Tensor) -> None:
        beams = self.rules.beams
        closed = ended.clone()
        closed[:, beams:].zero_()
        # Tokens behind the start token, the new one included.
        scores = scores / (self._position + 1.0) ** self.rules.length_penalty
        if self.rules.early_stopping:
            scores = scores + self._full.all(1, keepdim=True) * _NEVER
        scores = scores + ~self._hopeful * _NEVER + ~closed * _NEVER
        scores, order = torch.cat([self._best_scores, scores], 1).topk(beams, -1)
        self._best.copy_(self._gather(torch.cat([self._best, answers], 1), order))
        self._best_scores.copy_(scores)
        self._full.copy_(torch.cat([self._full, closed], 1).gather(1, order))

    def _go_on(self, answers: Tensor, scores: Tensor, ended: Tensor, parents: Tensor) -> None:
        scores, order = (scores + ended * _NEVER).topk(self.rules.beams, -1)
        self._scores.copy_(scores)
        self.tokens.copy_(self._gather(answers, order).flatten(0, 1))
        rows = (self._first_rows + parents.gather(1, order)).flatten()
        self.ancestry.copy_(self.ancestry.index_select(0, rows))
        self.positions += 1
        # The next token's keys and values go into the row itself.
        self.ancestry.index_copy_(1, self._position, self._own[:, None])

    def _settle(self, at_limit: Tensor) -> None:
        possible = self._scores[:, :1] / self._position.float() ** self.rules.length_penalty
        worst = self._best_scores.amin(1, keepdim=True).expand_as(self._full).masked_fill(~self._full, _NEVER)
        self._hopeful &= (possible > worst).any(1, keepdim=True) & ~at_limit
        over = ~self._hopeful.any()
        if self.rules.early_stopping:
            over = over | self._full.all()
        self.done.copy_(over)

    @staticmethod
    def _gather(sequences: Tensor, order: Tensor) -> Tensor:
        """`[images, k, T]` of `[images, n, T]` by the indices `[images, k]`."""
        return sequences.gather(1, order[:, :, None].expand(-1, -1, sequences.shape[2]))
