"""Conversations as tokens.

    <|bos|> <user> prompt <bot> response <end>

The ids of the three markers follow those of the text's tokenizer, so no text encodes to them, and a model pre-trained
on text alone has never seen them. Rows are padded on the right with <|bos|>; a causal model's predictions before the
padding do not depend on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from models.tokenizer import Tokenizer

MARKS = ("<user>", "<bot>", "<end>")


class ChatTokenizer:
    """A text tokenizer with the marks of a conversation."""

    def __init__(self, text: Tokenizer):
        self.text = text
        self.user_id, self.bot_id, self.end_id = (text.vocab_size + i for i in range(3))
        self.bos_id = text.bos_id

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size + len(MARKS)

    def display(self) -> list[str]:
        return [*self.text.display(), *MARKS]

    def prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return prompts up to where a response begins: <|bos|> <user> prompt <bot>. A space comes before the text, as
        inside a sentence."""
        encoded = self.text.encode_batch([f" {prompt}" for prompt in prompts])
        return [[self.bos_id, self.user_id, *each.ids, self.bot_id] for each in encoded]

    def sequences(self, prompts: Sequence[str], responses: Sequence[str], *, ended: bool = True) -> "Sequences":
        """Return prompts with their responses; without `<end>` if not `ended`."""
        encoded = self.text.encode_batch([f" {response}" for response in responses])
        end = [self.end_id] if ended else []
        return self.joined(self.prompts(prompts), [[*each.ids, *end] for each in encoded])

    def joined(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> "Sequences":
        """Return prompts with their responses, both as token ids."""
        length = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
        tokens = torch.full((len(prompts), length), self.bos_id, dtype=torch.int64)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            ids = [*prompt, *response]
            tokens[i, : len(ids)] = torch.tensor(ids)
            mask[i, len(prompt) : len(ids)] = True
        return Sequences(tokens, mask)

    def decode(self, ids: Sequence[int]) -> str:
        """Return text of a response up to its `<end>`; marks inside are left out."""
        ids = list(ids)
        ids = ids[: ids.index(self.end_id)] if self.end_id in ids else ids
        return self.text.decode([i for i in ids if i < self.text.vocab_size]).strip()


@dataclass(frozen=True)
class Sequences:
    """Conversations of one turn, filled up on the right."""

    tokens: Int[Tensor, "seq pos"]
    response: Bool[Tensor, "seq pos"]
    """The tokens of the response, `<end>` among them."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Int[Tensor, " row"] | slice) -> "Sequences":
        """Return some of the sequences, cut to the longest."""
        tokens, response = self.tokens[rows], self.response[rows]
        length = int(response.any(0).nonzero().max()) + 1
        return Sequences(tokens[:, :length], response[:, :length])

    @property
    def last(self) -> Int[Tensor, " seq"]:
        """The place of each last token."""
        places = torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
        return places.masked_fill(~self.response, -1).amax(1)
